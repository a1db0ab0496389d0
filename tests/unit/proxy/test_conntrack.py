"""Which flows are forgotten, and that nothing is asked of the kernel for TCP."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from service_cases import HERE, NODE, THERE, service

from testbed.errors import TestbedError
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


def flow(front: tuple[str, int], to: tuple[str, int]) -> Flow:
    return Flow(socket.IPPROTO_UDP, front, to)


FLOWS = [
    flow(VIP, backend(HERE)),
    flow(VIP, backend(THERE)),
    flow(VIP, VIP),
    flow(NODE_PORT, backend(THERE)),
    flow(NODE_PORT, NODE_PORT),
    flow(("127.0.0.1", 30053), backend(THERE)),
    flow(OTHER, OTHER),
    flow(("198.51.100.1", 30053), ("198.51.100.1", 30053)),
    Flow(socket.IPPROTO_SCTP, VIP, OTHER),
]
SERVING = frozenset([backend(HERE), backend(THERE)])
BUSY = replace(service("dns", VIP[0], HERE), protocol=Protocol.UDP, serving=SERVING)
NOTHING = Snapshot({}, (NODE,))

ROWS = [
    # before, after → flows of FLOWS that are forgotten
    (udp(HERE, THERE), udp(HERE), [1, 2, 3, 4, 5]),
    (udp(), udp(HERE, THERE), [2, 4]),
    (udp(HERE), NOTHING, [0, 1, 2, 3, 4, 5]),
    (udp(HERE, THERE), udp(HERE, THERE), None),
    (snapshot(service("web", VIP[0], HERE)), snapshot(service("web", VIP[0], THERE)), None),
    (NOTHING, snapshot(BUSY), [2]),
    (NOTHING, snapshot(replace(BUSY, protocol=Protocol.SCTP)), [8]),
]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What is forgotten at each look at the flow table."""
    seen: list[list[int]] = []

    def forget(some: list[Flow], _: int) -> int:
        seen.append([FLOWS.index(one) for one in some])
        return len(some)

    monkeypatch.setattr(conntrack, "flows", lambda *_: FLOWS)
    monkeypatch.setattr(conntrack, "forget", forget)
    return seen


@pytest.mark.parametrize(("before", "after", "gone"), ROWS)
@pytest.mark.feature("B11")
def test_stale_flows(
    looks: list[list[int]], before: Snapshot, after: Snapshot, gone: list[int] | None
) -> None:
    reconciler = Reconciler()
    reconciler.after_sync(before)
    looks.clear()
    found = reconciler.after_sync(after)
    assert looks == ([] if gone is None else [gone])
    assert (found.forgotten if found else None) == (None if gone is None else len(gone))


def test_a_repair_looks_at_what_has_not_changed(looks: list[list[int]]) -> None:
    """Someone may have changed the rules meanwhile; and an agent that starts has seen nothing happen."""
    reconciler = Reconciler()
    for repair in (False, False, True):
        reconciler.after_sync(udp(HERE), repair=repair)
    assert len(looks) == 2
    assert looks[0] == looks[1]
    assert reconciler.after_sync(snapshot(service("web", VIP[0], HERE)), repair=True)
    assert not reconciler.after_sync(snapshot(service("web", VIP[0], HERE)), repair=True), "no UDP, no look"


def test_a_look_that_failed_is_repeated(monkeypatch: pytest.MonkeyPatch, looks: list[list[int]]) -> None:
    def fail(*_: object) -> list[Flow]:
        raise TestbedError("no")

    reconciler = Reconciler()
    with monkeypatch.context() as patch:
        patch.setattr(conntrack, "flows", fail)
        with pytest.raises(TestbedError):
            reconciler.after_sync(udp(HERE))
    reconciler.after_sync(udp(HERE))
    assert looks == [[1, 2, 3, 4, 5]]
