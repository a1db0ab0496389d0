"""Which UDP flows are forgotten, and that nothing is asked of the kernel for TCP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from service_cases import HERE, NODE, THERE, service

from testbed.kernel.conntrack import Flow
from testbed.model.service import Endpoint, Protocol, ServicePort, Snapshot
from testbed.proxy import conntrack
from testbed.proxy.conntrack import Reconciler

VIP = ("10.96.0.7", 80)
NODE_PORT = (NODE, 30053)
OTHER = ("10.244.9.9", 8080)


def udp(*endpoints: Endpoint) -> Snapshot:
    return snapshot(replace(service("dns", VIP[0], *endpoints, node_port=30053), protocol=Protocol.UDP))


def snapshot(one: ServicePort) -> Snapshot:
    return Snapshot({(one.name, one.protocol.value): one}, (NODE,))


def backend(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.ip, endpoint.port


FLOWS = [
    Flow(VIP, backend(HERE)),
    Flow(VIP, backend(THERE)),
    Flow(VIP, VIP),
    Flow(NODE_PORT, backend(THERE)),
    Flow(NODE_PORT, NODE_PORT),
    Flow(("127.0.0.1", 30053), backend(THERE)),
    Flow(OTHER, OTHER),
    Flow(("198.51.100.1", 30053), ("198.51.100.1", 30053)),
]

ROWS = [
    # before, after → flows of FLOWS that are forgotten
    (udp(HERE, THERE), udp(HERE), [1, 2, 3, 4, 5]),
    (udp(), udp(HERE, THERE), [2, 4]),
    (udp(HERE), Snapshot({}, (NODE,)), [0, 1, 2, 3, 4, 5]),
    (udp(HERE, THERE), udp(HERE, THERE), None),
    (snapshot(service("web", VIP[0], HERE)), snapshot(service("web", VIP[0], THERE)), None),
]


@pytest.mark.parametrize(("before", "after", "gone"), ROWS)
@pytest.mark.feature("B11")
def test_stale_flows(
    monkeypatch: pytest.MonkeyPatch, before: Snapshot, after: Snapshot, gone: list[int] | None
) -> None:
    asked: list[list[int]] = []

    def forget(chosen: Callable[[Flow], bool], _: int) -> int:
        asked.append([number for number, flow in enumerate(FLOWS) if chosen(flow)])
        return 0

    monkeypatch.setattr(conntrack, "forget", forget)
    reconciler = Reconciler()
    reconciler.after_sync(before)
    asked.clear()
    reconciler.after_sync(after)
    assert asked == ([] if gone is None else [gone])
