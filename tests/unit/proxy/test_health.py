"""The agent's own health: what its probes say, and what it counts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from service_cases import SNAPSHOT

from testbed.model.service import Snapshot
from testbed.proxy.health import TO_BE_DELETED, HealthServer
from testbed.proxy.loop import without_local_endpoints
from testbed.proxy.metrics import Metrics, text

NODE: dict[str, Any] = {"metadata": {"name": "node01"}, "spec": {}}
DOOMED = {**NODE, "spec": {"taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule"}]}}
DELETED = {"metadata": {"name": "node01", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}}
PATIENCE = 1000.0

Answers = Mapping[str, tuple[int, dict[str, Any]]]


def probed(metrics: Metrics, node: dict[str, Any] | None = NODE, alone: bool = True) -> tuple[Answers, str]:
    """What each probe answers, and the metrics afterwards, by the address for metrics."""

    async def ask() -> tuple[Answers, str]:
        health = HealthServer([metrics], "iptables", PATIENCE)
        health.own_node(None, node)
        health.alone = alone
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(free.getsockname()[1])
        await health.start(*(f"127.0.0.1:{port}" for port in ports))
        found = {}
        async with aiohttp.ClientSession() as session:
            for probe in ("healthz", "livez"):
                async with session.get(f"http://127.0.0.1:{ports[0]}/{probe}") as answer:
                    found[probe] = (answer.status, await answer.json())
            async with session.get(f"http://127.0.0.1:{ports[1]}/metrics") as answer:
                told = await answer.text()
        await health.close()
        return found, told

    return asyncio.run(ask())


def synced(pending: float = 0.0) -> Metrics:
    """Of an agent that has synced once; `pending`: a change has been waiting for so many seconds."""
    metrics = Metrics()
    metrics.last_sync.value = time.time() - 1000
    metrics.last_queued.value = time.time()
    metrics.oldest_pending = time.time() - pending if pending else 0.0
    return metrics


def test_while_rules_of_another_mode_are_there_an_agent_is_not_healthy() -> None:
    found, _ = probed(synced(), alone=False)
    assert {probe: status for probe, (status, _) in found.items()} == {"healthz": 503, "livez": 503}


@pytest.mark.parametrize(
    ("pending", "node", "healthz", "livez"),
    [
        (0.0, NODE, 200, 200),
        (0.0, DOOMED, 503, 200),
        (0.0, DELETED, 503, 200),
        (0.0, None, 503, 200),
        (PATIENCE / 2, NODE, 200, 200),
        (PATIENCE * 2, NODE, 503, 503),
        (None, NODE, 503, 503),
    ],
)
@pytest.mark.feature("B13")
def test_probes(pending: float | None, node: dict[str, Any] | None, healthz: int, livez: int) -> None:
    """`pending`: seconds that a change has been waiting for; None: nothing was ever synced."""
    found, told = probed(Metrics() if pending is None else synced(pending), node)
    assert {probe: status for probe, (status, _) in found.items()} == {"healthz": healthz, "livez": livez}
    assert found["healthz"][1]["nodeEligible"] == (node is NODE)
    assert "nodeEligible" not in found["livez"][1]
    assert f'kubeproxy_proxy_healthz_total{{code="{healthz}"}} 1' in told
    assert f'kubeproxy_proxy_livez_total{{code="{livez}"}} 1' in told


def test_metrics_by_label() -> None:
    metrics = Metrics(6, "nftables")
    metrics.rules.values = {"nat": 3.0}
    told = text([metrics])
    assert 'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv6",table="nat"} 3.0' in told
    assert 'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"} 0.0' in told
    assert "iptables_restore_failures" not in told


def test_services_without_local_endpoints() -> None:
    assert without_local_endpoints(SNAPSHOT) == {"internal": 1, "external": 1}, "inside; elsewhere"
    assert without_local_endpoints(Snapshot()) == {"internal": 0, "external": 0}
