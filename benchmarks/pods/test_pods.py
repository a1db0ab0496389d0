"""What a node promises of its Pods: how fast they come, what they take, that each of them answers.

pytest benchmarks/pods
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import live
import pytest

from testbed.client import Client
from testbed.kernel.netns import Worker
from testbed.model.resources import DEPLOYMENTS, PODS

NODES, REPLICAS, ONE_BY_ONE = 10, 1000, 20
SCALED_WITHIN, MEMORY, READY_WITHIN = 20.0, 3072.0, 150.0
"""s for all Pods; MiB of the whole cluster; ms from a Pod's creation until it is Ready (median)."""
PATIENCE = 400.0
AT_ONCE = 32
"""Pods that are asked at the same time."""

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "echo", "namespace": "default"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "echo"}},
        "template": {
            "metadata": {"labels": {"app": "echo"}},
            "spec": {
                "containers": [{"name": "c", "image": "testbed/echo", "ports": [{"containerPort": 8080}]}]
            },
        },
    },
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Kubectl]:
    with live.running("pods-bench", tmp_path_factory.mktemp("pods"), "--nodes", str(NODES)) as cluster:
        kubectl = live.Kubectl(cluster)
        kubectl("rollout", "status", "-n", "kube-system", "deployment/kube-dns", "--timeout=60s")
        yield kubectl


def processes(kubectl: live.Kubectl) -> list[int]:
    """The pids of all that descends from the inits of the cluster's machines."""
    inits = {machine.init_pid for machine in kubectl.cluster.machines}
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (path / "stat").read_text()
                parents[int(path.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])

    def within(pid: int) -> bool:
        while pid and pid not in inits:
            pid = parents.get(pid, 0)
        return bool(pid)

    return [pid for pid in parents if within(pid)]


def memory(kubectl: live.Kubectl) -> float:
    """MiB that the cluster's processes have, what they share counted once (proportional set size)."""
    total = 0
    for pid in processes(kubectl):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def unreachable(addresses: list[str]) -> list[str]:
    """Those that do not answer; runs on a node."""

    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(address: str) -> str:
        try:
            async with turns, asyncio.timeout(20):
                reader, writer = await asyncio.open_connection(address, 8080)
                writer.write(b"hello\n")
                seen = json.loads(await reader.readline())["address"]
                writer.close()
                return "" if seen == address else address
        except (OSError, TimeoutError, ValueError):
            return address

    async def all_of_them() -> list[str]:
        return [each for each in await asyncio.gather(*map(ask, addresses)) if each]

    return asyncio.run(all_of_them())


async def scaled(client: Client, replicas: int) -> float:
    """Seconds until so many are Ready."""
    began = time.monotonic()
    await client.patch(DEPLOYMENTS, "echo", "default", {"spec": {"replicas": replicas}})
    while time.monotonic() < began + PATIENCE:
        held = await client.get(DEPLOYMENTS, "echo", "default")
        if held["status"].get("readyReplicas", 0) == replicas:
            break
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def created(client: Client, name: str) -> float:
    """Milliseconds from a Pod's creation until it is Ready."""
    spec = {"containers": [{"name": "c", "image": "testbed/echo"}]}
    metadata = {"name": name, "namespace": "default"}
    began = time.monotonic()
    made = await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    version = made["metadata"]["resourceVersion"]
    only = f"metadata.name={name}"
    async for event in client.watch(PODS, "default", resource_version=version, field_selector=only):
        conditions = event.object.get("status", {}).get("conditions") or ()
        if any((each["type"], each["status"]) == ("Ready", "True") for each in conditions):
            break
    return (time.monotonic() - began) * 1000


def test_from_creation_to_ready(kubectl: live.Kubectl, recorded, promise) -> None:
    async def one_by_one() -> list[float]:
        async with Client.from_kubeconfig(kubectl.cluster.kubeconfig) as client:
            return [await created(client, f"single-{number}") for number in range(ONE_BY_ONE)]

    took = asyncio.run(one_by_one())
    kubectl("delete", "pods", "--all", "--wait=false")
    recorded([ms * 1000 for ms in took])
    promise("Pod created until Ready, median", sorted(took)[len(took) // 2], READY_WITHIN, "ms", wall=True)


def test_a_thousand_pods(kubectl: live.Kubectl, recorded, promise) -> None:
    async def grow() -> tuple[float, list[str]]:
        async with Client.from_kubeconfig(kubectl.cluster.kubeconfig) as client:
            await client.create(DEPLOYMENTS, DEPLOYMENT)
            took = await scaled(client, REPLICAS)
            listing = await client.list(PODS, "default", label_selector="app=echo")
            return took, [pod["status"].get("podIP", "") for pod in listing.items]

    took, addresses = asyncio.run(grow())
    with Worker(kubectl.cluster.machine("node01").netns) as node:
        silent = node.call(unreachable, addresses)
    assert (len(set(addresses)), silent) == (REPLICAS, [])
    recorded([took], "s")
    promise(f"{REPLICAS} Pods on {NODES} nodes", took, SCALED_WITHIN, "s", wall=True)
    promise("memory of the cluster with them", memory(kubectl), MEMORY, "MiB")
