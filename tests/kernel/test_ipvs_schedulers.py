"""Each IPVS scheduler by what defines it, on real connections. Source: net/netfilter/ipvs/ip_vs_*.c."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from ipvs_scene import KEPT, Callers, kept_open
from service_scene import PODS, VIP, Scene, scene, shell

from testbed.errors import TestbedError
from testbed.kernel.ipvs import Address, Ipvs, VirtualServer
from testbed.model.topology import IPVS_SCHEDULERS

pytestmark = pytest.mark.needs("ip_vs")

A, B = ((ip, KEPT[0]) for ip in PODS.values())
ALL = [(ip, port) for ip in PODS.values() for port in KEPT]
NAMES = {A: f"a:{KEPT[0]}", B: f"b:{KEPT[0]}"}
CLIENTS = [f"172.30.0.{host}" for host in range(200, 216)]
TO_A, TO_B = NAMES[A], NAMES[B]


@pytest.fixture(scope="module")
def wired() -> Iterator[Scene]:
    with scene() as made, kept_open(made):
        made.at["node"].call(shell, f"ip addr add {VIP}/32 dev lo; ip link set lo up")
        extra = ";".join(f"ip addr add {ip}/24 dev eth0" for ip in CLIENTS)
        made.at["client"].call(shell, extra)
        yield made


class Balanced:
    """A front per scheduler; `call` gives the names of who answers."""

    def __init__(self, wired: Scene) -> None:
        self.client, self.node = wired.at["client"], wired.at["node"]
        self.port = 80

    def serve(self, scheduler: str, servers: dict[Address, int]) -> None:
        self.port += 1
        front = ("TCP", VIP, self.port)
        self.node.call(set_table, {front: VirtualServer(scheduler, 0, servers)})

    def call(self, times: int = 1, source: str = "", source_ports: int = 0) -> list[str]:
        return self.client.call(Callers.call, VIP, self.port, times, source, source_ports)

    def hang_up(self, name: str = "") -> None:
        self.client.call(Callers.hang_up, name, True)


def set_table(table: dict[tuple[str, str, int], VirtualServer]) -> None:
    ipvs = Ipvs()
    ipvs.flush()
    ipvs.change({}, table)


@pytest.fixture
def balanced(wired: Scene) -> Iterator[Balanced]:
    one = Balanced(wired)
    yield one
    one.hang_up()


@pytest.mark.feature("A17")
def test_rr_takes_turns_whatever_the_weights(balanced: Balanced) -> None:
    balanced.serve("rr", {A: 3, B: 1})
    names = balanced.call(6)
    assert set(names) == {TO_A, TO_B}
    assert all(one != other for one, other in pairwise(names))


@pytest.mark.feature("A17")
def test_wrr_takes_turns_by_weight(balanced: Balanced) -> None:
    balanced.serve("wrr", {A: 3, B: 1})
    names = balanced.call(8)
    assert Counter(names[:4]) == Counter(names[4:]) == {TO_A: 3, TO_B: 1}


@pytest.mark.feature("A17")
def test_lc_goes_where_the_fewest_are_whatever_the_weights(balanced: Balanced) -> None:
    balanced.serve("lc", {A: 3, B: 1})
    assert Counter(balanced.call(6)) == {TO_A: 3, TO_B: 3}
    balanced.hang_up(TO_A)
    assert balanced.call(3) == [TO_A] * 3


@pytest.mark.feature("A17")
def test_wlc_goes_where_the_fewest_are_for_their_weight(balanced: Balanced) -> None:
    balanced.serve("wlc", {A: 3, B: 1})
    assert Counter(balanced.call(8)) == {TO_A: 6, TO_B: 2}
    balanced.hang_up(TO_A)
    assert balanced.call(6) == [TO_A] * 6


@pytest.mark.feature("A17")
def test_sed_counts_the_newcomer_too(balanced: Balanced) -> None:
    balanced.serve("sed", {A: 4, B: 1})
    assert balanced.call(3) == [TO_A] * 3, "b is idle, but would be slower"


@pytest.mark.feature("A17")
def test_nq_lets_nobody_be_idle(balanced: Balanced) -> None:
    balanced.serve("nq", {A: 4, B: 1})
    assert set(balanced.call(2)) == {TO_A, TO_B}
    assert balanced.call(2) == [TO_A] * 2, "as sed, when nobody is idle"


@pytest.mark.feature("A17")
def test_dh_goes_by_the_destination(balanced: Balanced) -> None:
    balanced.serve("dh", {A: 1, B: 1})
    assert len({balanced.call(1, source)[0] for source in CLIENTS}) == 1


@pytest.mark.feature("A17")
def test_sh_goes_by_the_source(balanced: Balanced) -> None:
    balanced.serve("sh", {A: 1, B: 1})
    first = [balanced.call(1, source)[0] for source in CLIENTS]
    assert [balanced.call(1, source)[0] for source in CLIENTS] == first
    assert set(first) == {TO_A, TO_B}
    balanced.serve("sh", {A: 0, B: 1})
    assert {balanced.call(1, source)[0] for source in CLIENTS} == {TO_B}, (
        "a server that leaves refuses nobody"
    )


@pytest.mark.feature("A17")
def test_mh_moves_hardly_anybody_but_those_whose_server_went(balanced: Balanced) -> None:
    flows = {"times": 40, "source_ports": 20000}
    balanced.serve("mh", dict.fromkeys(ALL, 1))
    before = balanced.call(**flows)
    assert len(set(before)) == 4, "the ports of one client spread"
    balanced.hang_up()
    balanced.serve("mh", dict.fromkeys(ALL[:3], 1))
    after = balanced.call(**flows)
    gone = f"b:{KEPT[1]}"
    stayed = [(old, new) for old, new in zip(before, after, strict=True) if old != gone]
    assert gone not in after
    assert sum(old != new for old, new in stayed) <= len(stayed) / 10


@pytest.mark.parametrize("scheduler", IPVS_SCHEDULERS)
def test_the_kernel_has_it(wired: Scene, scheduler: str) -> None:
    wired.at["node"].call(require, scheduler)


def test_a_missing_scheduler_is_told_plainly(wired: Scene) -> None:
    with pytest.raises(TestbedError, match=r"no IPVS scheduler best \(module ip_vs_best\); choose another"):
        wired.at["node"].call(require, "best")


def require(scheduler: str) -> None:
    ipvs = Ipvs()
    ipvs.require(scheduler)
    assert not [front for front in ipvs.read() if front[1].startswith("127.")]
