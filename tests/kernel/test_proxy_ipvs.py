"""IPVS as the kernel holds it: read back by pyroute2, which had no part in writing it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from service_scene import OPTIONS, service, shell, snapshot

from testbed.kernel import addresses, ipset
from testbed.kernel.ipvs import Front, Ipvs, Table, VirtualServer
from testbed.kernel.namespaces import unshare
from testbed.kernel.netns import Worker, scratch
from testbed.model.service import Protocol
from testbed.proxy.modes import ipvs as ipvs_mode
from testbed.proxy.modes import mode_class
from testbed.proxy.modes.chains import remove_rules

pytestmark = pytest.mark.needs("ip_vs")

REALS = {("10.244.1.2", 8080): 1, ("10.244.2.2", 8080): 3}
FIRST: Table = {
    ("TCP", "10.96.0.7", 80): VirtualServer("rr", 0, REALS),
    ("UDP", "10.96.0.7", 80): VirtualServer("wlc", 10800, REALS),
    ("SCTP", "10.96.0.8", 9): VirtualServer("sh"),
}
SECOND: Table = {
    ("TCP", "10.96.0.7", 80): VirtualServer("lc", 60, {("10.244.1.2", 8080): 2, ("10.244.3.2", 80): 1}),
    ("UDP", "10.96.0.7", 80): VirtualServer("wlc"),
}


def eye() -> Table:
    """The table by pyroute2."""
    from pyroute2 import IPVS, IPVSService

    names = {6: "TCP", 17: "UDP", 132: "SCTP"}
    found: Table = {}
    with IPVS() as ipvs:
        for message in ipvs.service("dump"):
            about = dict(message.get("service")["attrs"])
            reals = {}
            for answer in ipvs.dest("dump", service=IPVSService.from_message(message)):
                real = dict(answer.get("dest")["attrs"])
                assert real["IPVS_DEST_ATTR_FWD_METHOD"] & 7 == 0, "not masquerading"
                key = (real["IPVS_DEST_ATTR_ADDR"], real["IPVS_DEST_ATTR_PORT"])
                reals[key] = real["IPVS_DEST_ATTR_WEIGHT"]
            front = (
                names[about["IPVS_SVC_ATTR_PROTOCOL"]],
                about["IPVS_SVC_ATTR_ADDR"],
                about["IPVS_SVC_ATTR_PORT"],
            )
            persistent = about["IPVS_SVC_ATTR_FLAGS"]["flags"] & 1
            timeout = about["IPVS_SVC_ATTR_TIMEOUT"] if persistent else 0
            found[front] = VirtualServer(about["IPVS_SVC_ATTR_SCHED_NAME"], timeout, reals)
    return found


def step(want: Table) -> Table:
    """Change to `want` from what is there; what the kernel tells of it then."""
    ipvs = Ipvs()
    ipvs.change(ipvs.read(), want)
    return ipvs.read()


def whole_life() -> tuple[list[int], dict[str, object], dict[str, object]]:
    """Sync, sync, repair, damage and repair; what is there; what cleanup leaves."""
    mode = mode_class("ipvs")(OPTIONS)
    mode.start()
    state = mode.render(snapshot(service("a", "b"), service("a", protocol=Protocol.UDP)))
    changes = [mode.sync(state), mode.sync(state), mode.sync(state, repair=True)]
    shell("ip addr del 10.96.0.7/32 dev kube-ipvs0; ipset del KUBE-CLUSTER-IP 10.96.0.7,tcp:80")
    ipvs = Ipvs()
    table = ipvs.read()
    table.pop(("TCP", "10.96.0.7", 80))
    ipvs.change(ipvs.read(), {**table, ("TCP", "192.0.2.1", 1): VirtualServer("rr")})
    changes.append(mode.sync(state, repair=True))
    there = left()
    remove_rules()
    mode_class("ipvs").cleanup()
    return changes, there, left()


def left() -> dict[str, object]:
    return {
        "fronts": sorted(Ipvs().read()),
        "sets": sorted(ipset.read("KUBE-")),
        "device": bool(addresses.index_of("kube-ipvs0")),
        "addresses": sorted(addresses.on_interface("kube-ipvs0")),
    }


@pytest.fixture
def node() -> Iterator[Worker]:
    with scratch() as path, Worker(path) as worker:
        yield worker


@pytest.mark.feature("A17", "B14")
def test_changes_arrive(node: Worker) -> None:
    for want in (FIRST, SECOND, {}, SECOND, FIRST):
        assert node.call(step, want) == want
        assert node.call(eye) == want


@pytest.mark.feature("A15", "A17")
def test_whole_life_of_the_mode(node: Worker) -> None:
    changes, there, afterwards = node.call(whole_life)
    assert changes[1:3] == [0, 0]
    assert changes[3] == 5, "a front, its two servers, an address, a set entry"
    foreign = ("TCP", "192.0.2.1", 1)
    mine = [("TCP", "10.96.0.7", 80), ("TCP", "172.30.0.11", 30080)]
    udp = [("UDP", "10.96.0.7", 80), ("UDP", "172.30.0.11", 30080)]
    assert there["fronts"] == sorted([*mine, *udp, foreign])
    assert there["addresses"] == ["10.96.0.7"]
    assert afterwards == {"fronts": [foreign], "sets": [], "device": False, "addresses": []}


def test_a_server_that_is_no_host_does_not_stop_the_others(node: Worker) -> None:
    """A subnet's broadcast address, say: nothing in an EndpointSlice tells that it is one."""
    front = ("TCP", "10.96.0.7", 80)
    odd = VirtualServer("rr", 0, {("255.255.255.255", 80): 1, **REALS})
    assert node.call(step, {front: odd}) == {front: VirtualServer("rr", 0, REALS)}


@pytest.mark.feature("A17", "B9")
def test_nothing_is_missed_where_another_namespace_has_servers_too(node: Worker) -> None:
    """The kernel's file skips some then, once it is longer than a page."""
    reals = ({("10.244.1.2", 8080): 1}, {("fd00:10:244:1::2", 8080): 2})
    ips = [(f"10.96.1.{number}", f"fd00:10:96::{number}") for number in range(1, 100)]
    want = {
        ("TCP", ip, 80): VirtualServer("rr", 0, real)
        for pair in ips
        for ip, real in zip(pair, reals, strict=True)
    }
    with scratch() as path, Worker(path) as other:
        assert other.call(step, want) == want
        assert node.call(step, want) == want
        assert node.call(step, {}) == {}
        assert other.call(step, want) == want


def many(count: int) -> None:
    """So many virtual servers, as a sync leaves them."""
    ips = [f"10.96.{number // 250}.{1 + number % 250}" for number in range(count)]
    ipvs_mode.make_device()
    Ipvs().change({}, {("TCP", ip, 80): VirtualServer("rr") for ip in ips})
    addresses.change(ipvs_mode.DEVICE, add=ips, remove=())


def clean_up_with_a_pause(pause: int) -> int:
    """Clean up, and wait in the midst of the first listing until something comes through `pause`.

    How many servers that listing found.
    """
    whole, found = Ipvs._fronts, list[int]()

    def paused(self: Ipvs) -> Iterator[tuple[Front, str, int]]:
        listing = whole(self)
        yield next(listing)
        with socket.socket(fileno=pause) as channel:
            channel.recv(1)
        Ipvs._fronts = whole  # type: ignore[method-assign]
        rest = list(listing)
        found.append(1 + len(rest))
        yield from rest

    Ipvs._fronts = paused  # type: ignore[method-assign]
    mode_class("ipvs").cleanup()
    return found[0]


def test_nodes_of_one_kernel_clean_up_at_the_same_time() -> None:
    """What one node is listing moves up when another removes its own, and nothing may be passed over."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Worker() as one, Worker() as other:
        for node in (one, other):
            node.call(unshare, ("net",))
            node.call(many, 250)
        slow = one.start(clean_up_with_a_pause, theirs.fileno())
        time.sleep(1.0)
        other.call(mode_class("ipvs").cleanup)
        ours.send(b"1")
        assert slow.result(60) < 250, "this kernel's listing passes nothing over: the test shows nothing"
        assert [node.call(eye) for node in (one, other)] == [{}, {}]
