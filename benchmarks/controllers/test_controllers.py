"""What the cluster around the proxy promises: rollouts, endpoints that go, names.

pytest benchmarks/controllers
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import time
from collections.abc import Iterator

import live
import pytest

from testbed.client import Client
from testbed.dns import wire
from testbed.kernel.netns import Worker
from testbed.model.resources import PODS

PODS_IN_ROLLOUT = 50
DELETIONS = 20
QUERIES, IN_FLIGHT, SOCKETS = 40_000, 16, 8
NAMES = ("kubernetes.default", "kube-dns.kube-system", "web.default", "no-such-name.default")

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: testbed/echo, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Kubectl]:
    with live.running(
        "controllers", tmp_path_factory.mktemp("controllers"), "--proxy-mode", "nftables"
    ) as one:
        kubectl = live.Kubectl(one)
        kubectl("apply", "-f", "-", manifest=WEB % PODS_IN_ROLLOUT)
        kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        kubectl("rollout", "status", "-n", "kube-system", "deployment/kube-dns", "--timeout=60s")
        yield kubectl


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_rollout_of_fifty_pods(kubectl: live.Kubectl, recorded, promise) -> None:
    """All fifty replaced, by the Deployment's own 25 %."""
    kubectl("set", "env", "deployment/web", f"RUN={time.time()}")
    began = time.perf_counter()
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    seconds = time.perf_counter() - began
    recorded([seconds], unit="s")
    promise("rollout of 50 Pods", seconds, 10, "s", wall=True)


def test_a_deleted_pod_is_out_of_the_rules(kubectl: live.Kubectl, recorded, promise) -> None:
    """From the deletion to the other node's rules, by the ruleset that the kernel gives back."""
    node = kubectl.cluster.machine("node01")
    found = json.loads(kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    chosen = [pod for pod in found if pod["spec"]["nodeName"] == "node02"][:DELETIONS]
    with Worker(node.netns) as worker:
        times = [asyncio.run(_delete(kubectl, pod, worker)) for pod in chosen]
    recorded([seconds * 1e6 for seconds in times])
    promise("deletion to rules, median", percentile(times, 0.5) * 1000, 200, "ms", wall=True)


async def _delete(kubectl: live.Kubectl, pod: dict, worker: Worker) -> float:
    metadata = pod["metadata"]
    async with Client.from_kubeconfig(kubectl.cluster.kubeconfig) as client:
        pending = worker.start(_gone, pod["status"]["podIP"])
        await asyncio.sleep(0.05)
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        await client.delete(PODS, metadata["name"], metadata["namespace"])
        return pending.result(timeout=60) - began


def _gone(address: str) -> float:
    """When no rule of this node names the address any more."""
    table = ["nft", "list", "table", "ip", "kube-proxy"]
    while address in subprocess.run(table, capture_output=True, text=True, check=True).stdout:
        pass
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def test_names_through_the_service(kubectl: live.Kubectl, recorded, promise, benchmark) -> None:
    """Questions from a node to 10.96.0.10, 16 in flight, over the rules to the Pod on another node."""
    with Worker(kubectl.cluster.machine("node01").netns) as worker:
        seconds, latencies = worker.call(_ask, "10.96.0.10")
    recorded([each * 1e6 for each in latencies[:: max(1, len(latencies) // 10_000)]])
    benchmark.extra_info["queries"] = len(latencies)
    promise("DNS answers", len(latencies) / seconds, 10_000, "queries/s", wall=True)
    promise("p99 of an answer", percentile(latencies, 0.99) * 1000, 5, "ms", wall=True)


def _ask(server: str) -> tuple[float, list[float]]:
    """(seconds for all, latencies): each socket has its share of what is in flight."""
    questions = [wire.question(0, f"{name}.svc.cluster.local", wire.A) for name in NAMES]
    poll, sockets = select.epoll(), {}
    for _ in range(SOCKETS):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setblocking(False)
        one.connect((server, 53))
        sockets[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
    sent: dict[int, float] = {}
    latencies: list[float] = []
    number = 0

    def ask(one: socket.socket) -> None:
        nonlocal number
        number = (number + 1) % 65536
        sent[number] = time.perf_counter()
        one.send(number.to_bytes(2) + questions[number % len(questions)][2:])

    began = time.perf_counter()
    for one in sockets.values():
        for _ in range(IN_FLIGHT // SOCKETS):
            ask(one)
    while len(latencies) < QUERIES:
        ready = poll.poll(2)
        assert ready, f"{len(sent)} questions without an answer"
        for descriptor, _ in ready:
            one = sockets[descriptor]
            with contextlib.suppress(BlockingIOError):
                while answer := one.recv(1500):
                    latencies.append(time.perf_counter() - sent.pop(int.from_bytes(answer[:2])))
                    ask(one)
    seconds = time.perf_counter() - began
    for one in sockets.values():
        one.close()
    return seconds, latencies
