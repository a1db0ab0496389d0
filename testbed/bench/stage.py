"""The cluster of a run: a node for each mode, backends on their own node, Services that grow in number."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.bench import objects
from testbed.bench.measures import DIRECT
from testbed.bench.record import Programming
from testbed.bench.waiting import first_answer
from testbed.client import Client
from testbed.errors import TestbedError
from testbed.kernel.netns import Worker
from testbed.lab.bringup import bring_up
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.model.resources import ENDPOINT_SLICES, PODS, SERVICES
from testbed.model.topology import CONTROL_PLANE, ClusterSpec, NodeWish
from testbed.model.topology import plan as lay_out

CLUSTER = "bench"
BACKENDS = 2
IN_FLIGHT = 16
"""API requests under way at once."""

DEADLINE = 300.0
"""Seconds that Pods have to become Ready, and a new Service to answer."""

PODS_POLL = 0.2
API_WRITES = "API writes"
"""The column of the programming table that says when the last write was acknowledged."""


@dataclass
class Lab:
    """The cluster of a run: a prober in each client Pod, the backends, the Services made so far."""

    cluster: Cluster
    workers: dict[str, Worker] = field(default_factory=dict)
    backends: list[tuple[str, str]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    """ClusterIPs by index of the Service."""


def node_of(column: str) -> str:
    """The node that a column's client is on. Direct probes from the one node that has no proxy."""
    return CONTROL_PLANE if column == DIRECT else column


def cluster_spec(modes: Sequence[str]) -> ClusterSpec:
    """A node for each mode, named as it; one for the backends; the control plane has no proxy."""
    wishes = [NodeWish(mode, mode) for mode in modes] + [NodeWish(objects.SERVER_NODE, "none")]
    return lay_out(ClusterSpec(name=CLUSTER, proxy_mode="none"), tuple(wishes))


@contextlib.contextmanager
def stage(modes: Sequence[str], say: Callable[[str], None]) -> Iterator[Lab]:
    """A cluster with its Pods Ready and a worker in each client. It is gone at exit, whatever happens."""
    cluster = bring_up(cluster_spec(modes), progress=say)
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.state.destroy)
        lab = Lab(cluster)
        say("Pods: backends, and a client on each node")
        pods = asyncio.run(_pods(lab, (DIRECT, *modes)))
        for column in (DIRECT, *modes):
            machine = cluster.machine(node_of(column))
            lab.workers[column] = stack.enter_context(Worker(machine.pod_netns(pods[f"client-{column}"])))
        lab.backends = [(pods[f"nginx-{i}"]["status"]["podIP"], objects.SERVER_NODE) for i in range(BACKENDS)]
        yield lab


async def _pods(lab: Lab, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Create backends and clients and wait until all are Ready; by name."""
    wanted = [objects.pod(f"nginx-{i}", objects.SERVER_NODE, "nginx") for i in range(BACKENDS)]
    wanted += [objects.pod(f"client-{column}", node_of(column), "testbed/echo") for column in columns]
    async with Client.from_kubeconfig(lab.cluster.kubeconfig) as client:
        for pod in wanted:
            await client.create(PODS, pod)
        end = time.monotonic() + DEADLINE
        while True:
            found = {
                pod["metadata"]["name"]: pod for pod in (await client.list(PODS, objects.NAMESPACE)).items
            }
            waiting = [
                pod["metadata"]["name"]
                for pod in wanted
                if not _ready(found.get(pod["metadata"]["name"], {}))
            ]
            if not waiting:
                return found
            if time.monotonic() > end:
                raise TestbedError(f"Pods not Ready after {DEADLINE:g} s: {', '.join(waiting)}")
            await asyncio.sleep(PODS_POLL)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def grow(lab: Lab, modes: Sequence[str], size: int) -> list[Programming]:
    """Write Services up to `size`, many in flight, and time until the last of them answers in each mode."""
    indexes = range(len(lab.addresses), size)
    start = time.perf_counter()
    async with Client.from_kubeconfig(lab.cluster.kubeconfig) as client:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def write(index: int) -> str:
            async with gate:
                made = await client.create(SERVICES, objects.service(index))
                await client.create(ENDPOINT_SLICES, objects.slice_(index, lab.backends))
                return str(made["spec"]["clusterIP"])

        lab.addresses += await asyncio.gather(*(write(index) for index in indexes))
    steps = [Programming(size, len(indexes), API_WRITES, time.perf_counter() - start)]
    target = (lab.addresses[-1], objects.PORT)
    waits = {mode: lab.workers[mode].start(first_answer, target, DEADLINE) for mode in modes}
    for mode, wait in waits.items():
        answered = wait.result(DEADLINE + 30)
        if answered is None:
            raise TestbedError(
                f"{mode}: Service {len(lab.addresses)} of {size} does not answer after {DEADLINE:g} s; "
                f"its node's log says why: {lab.cluster.state.path}/logs/{mode}/kube-proxy.log"
            )
        steps.append(Programming(size, len(indexes), mode, answered - start))
    return steps


def listed(machine: Machine) -> list[str]:
    """The ClusterIPs in the order in which the kernel walks them: the rules of chain KUBE-SERVICES."""
    rules = machine.run(["iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES"]).stdout
    return re.findall(r"^-A KUBE-SERVICES .*-d ([0-9.]+)(?:/32)? ", rules, re.MULTILINE)


def in_order(addresses: Sequence[str], rules: Sequence[str]) -> list[str]:
    """`addresses` as the rules list them; by name where a mode has no list (a hash has no first and last)."""
    place = {address: number for number, address in reversed(list(enumerate(rules)))}
    return sorted(addresses, key=place.__getitem__) if place else list(addresses)
