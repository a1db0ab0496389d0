"""Which real servers stay at weight 0, and when they go: graceful termination without a kernel."""

from __future__ import annotations

import pytest

from testbed.kernel.ipvs import Front, VirtualServer
from testbed.proxy.modes.ipvs_leaving import idle, with_leaving, without

A, B = ("10.244.1.2", 8080), ("10.244.1.3", 8080)
TCP: Front = ("TCP", "10.96.0.7", 80)
UDP: Front = ("UDP", "10.96.0.7", 80)
SCTP: Front = ("SCTP", "10.96.0.7", 80)


def server(*reals: tuple[str, int], scheduler: str = "rr") -> VirtualServer:
    return VirtualServer(scheduler, 0, dict.fromkeys(reals, 1))


def test_a_tcp_server_stays_at_weight_0() -> None:
    slow = with_leaving({TCP: server(A, B)}, {TCP: server(B)})
    assert slow == {TCP: VirtualServer("rr", 0, {B: 1, A: 0})}


@pytest.mark.parametrize("front", [UDP, SCTP])
def test_others_go_at_once(front: Front) -> None:
    assert with_leaving({front: server(A, B)}, {front: server(B)}) == {front: server(B)}


def test_dh_would_refuse_everybody() -> None:
    wanted = {TCP: server(B, scheduler="dh")}
    assert with_leaving({TCP: server(A, B, scheduler="dh")}, wanted) == wanted


def test_a_service_that_goes_takes_its_servers_along() -> None:
    assert with_leaving({TCP: server(A)}, {}) == {}


def test_fronts_where_nobody_leaves_stay_the_same_objects() -> None:
    wanted = {TCP: server(A, B), UDP: server(A)}
    slow = with_leaving({TCP: server(A)}, wanted)
    assert all(slow[front] is wanted[front] for front in wanted)


def test_it_goes_with_its_last_connection() -> None:
    wanted = {TCP: server(B)}
    slow = with_leaving({TCP: server(A, B)}, wanted)
    assert idle({A: 1, B: 0}, slow[TCP], wanted[TCP]) == set()
    assert without(slow, wanted, {TCP: set()}) == slow
    assert idle({A: 0, B: 3}, slow[TCP], wanted[TCP]) == {A}
    there = without(slow, wanted, {TCP: {A}})
    assert there[TCP] is wanted[TCP]


def test_one_of_two_goes() -> None:
    wanted = {TCP: server()}
    slow = with_leaving({TCP: server(A, B)}, wanted)
    assert without(slow, wanted, {TCP: {A}}) == {TCP: VirtualServer("rr", 0, {B: 0})}
