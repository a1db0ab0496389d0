"""Rules in the real tables: spelled as the kernel tells them, mended when damaged, nobody else's touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import ipv6_twin
import pytest
from service_scene import OPTIONS, shell, variant_path

from testbed.kernel import ipset
from testbed.kernel.ipset import IpSet
from testbed.kernel.netns import Worker, scratch
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Xtables
from testbed.model.service import Endpoint, Protocol, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.modes import mode_class
from testbed.proxy.modes.chains import TABLES, owns, remove_rules, rule_set
from testbed.proxy.modes.ipvs_rules import JUMPS as IPVS_JUMPS
from testbed.proxy.modes.ipvs_rules import SETS, filter_chains, nat_chains, node_shut_out, set_name, spelled
from testbed.proxy.options import ProxyOptions

HERE, THERE = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080)
FOREIGN = """
iptables -t nat -N CNI-x
iptables -t nat -A CNI-x -d 224.0.0.0/4 -j RETURN
iptables -t nat -A CNI-x -m comment --comment "a \\"quoted\\" word -j KUBE-SVC-X" -j MASQUERADE
iptables -t nat -A POSTROUTING -s 10.9.0.0/16 -j CNI-x
iptables -A FORWARD -i cni0 -j ACCEPT
iptables -N KUBE-KUBELET-CANARY
iptables -P FORWARD DROP
"""


def every_kind() -> Snapshot:
    """Service ports of every kind: endpoints × policies × affinity × ranges × protocols."""
    services = {}
    flags = product(((), (HERE,), (HERE, THERE), (THERE,)), (False, True), (False, True), (0, 60), Protocol)
    for number, (ends, inside, outside, affinity, protocol) in enumerate(flags):
        one = ServicePort(
            "default",
            f"s{number}",
            "p",
            protocol,
            f"10.96.1.{number}",
            80,
            30000 + number,
            ("198.51.100.1",),
            ("203.0.113.1",),
            ("192.0.2.0/24", "192.0.2.1/32") if number % 2 else (),
            affinity,
            32000 + number if outside else 0,
            Route(ends),
            Route(tuple(e for e in ends if e.local), Refusal.DROP if ends else Refusal.REJECT),
            internal_local=inside,
            external_local=outside,
        )
        services[(one.name, one.protocol.value)] = one
    return Snapshot(services, ("172.30.0.11",))


EVERY_KIND = every_kind()
HALF = Snapshot(dict(list(EVERY_KIND.services.items())[::2]), ("172.30.0.11",))


class Node:
    """Runs inside the Worker: modes by name, one at a time."""

    @staticmethod
    def path(directory: str) -> None:
        os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"

    @staticmethod
    def sync(name: str, *snapshots: Snapshot, options: ProxyOptions = OPTIONS) -> list[int]:
        """A fresh agent's syncs, then a repair: the changes of each."""
        mode = mode_class(name)(options)
        mode.start()
        changes = [mode.sync(mode.render(one)) for one in snapshots]
        changes.append(mode.sync(mode.render(snapshots[-1]), repair=True))
        mode.stop()
        return changes

    @staticmethod
    def tables() -> dict[str, dict[str, tuple[str, ...]]]:
        return {table: Xtables().read(table) for table in TABLES}

    @staticmethod
    def damaged(script: str, repair: bool) -> tuple[bool, int]:
        """Sync, damage, sync HALF: are the rules those of an undamaged node?"""
        mode = mode_class("iptables")(OPTIONS)
        mode.start()
        mode.sync(mode.render(HALF))
        right = Node.tables()
        mode.sync(mode.render(EVERY_KIND))
        shell(script)
        changes = mode.sync(mode.render(HALF), repair=repair)
        return Node.tables() == right, changes

    @staticmethod
    def constant(wanted: Wanted, family: int) -> int:
        """Apply, and apply anew from what the kernel tells: the changes of the second time."""
        rule_set(Xtables(family)).apply(wanted)
        return rule_set(Xtables(family)).apply(wanted)


@pytest.fixture(params=["nft", "legacy"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    with scratch() as path, Worker(path) as worker:
        worker.call(Node.path, variant_path(tmp_path, request.param))
        yield worker


@pytest.mark.parametrize("mode", ["iptables", "userspace"])
@pytest.mark.feature("A16")
def test_rules_are_spelled_as_the_kernel_tells_them(node: Worker, mode: str) -> None:
    """So a second agent, and a repair, find nothing to do."""
    first = node.call(Node.sync, mode, EVERY_KIND)
    assert first[0] > 500
    assert first[1] == 0
    if mode == "iptables":  # userspace listens on other ports then
        assert node.call(Node.sync, mode, EVERY_KIND) == [0, 0]


@pytest.mark.parametrize("mode", ["iptables", "userspace"])
@pytest.mark.feature("B9")
def test_ipv6_rules_are_spelled_as_the_kernel_tells_them(node: Worker, mode: str) -> None:
    before = node.call(Node.tables)
    first = node.call(Node.sync, mode, ipv6_twin.snapshot(EVERY_KIND), options=ipv6_twin.options(OPTIONS))
    assert first[0] > 500
    assert first[1] == 0
    assert node.call(Node.tables) == before, "IPv4's are another agent's"
    assert node.call(remove_rules, 6)
    assert node.call(remove_rules, 6) == 0


@pytest.mark.parametrize("ranges", [(), pytest.param(("fd00::/64",), marks=pytest.mark.needs("ip_vs"))])
@pytest.mark.parametrize("family", [4, 6])
def test_ipvs_rules_are_spelled_as_the_kernel_tells_them(
    node: Worker, family: int, ranges: tuple[str, ...]
) -> None:
    """The match of a virtual server is one that a kernel without IPVS has not."""
    sets = {set_name(name, family): IpSet(kind, (), family) for name, kind in SETS.items()}
    node.call(ipset.change, {}, sets)
    refusals = ["-p tcp -m addrtype ! --src-type LOCAL --dst-type LOCAL -m tcp --dport 80 -j DROP"]
    options = OPTIONS if family == 4 else ipv6_twin.options(OPTIONS)
    balancer = {4: "203.0.113.1", 6: "fd00:1::1"}[family]
    guarded = ServicePort(
        "default", "s", "", Protocol.TCP, "", 80, load_balancer_ips=(balancer,), source_ranges=ranges
    )
    filters = filter_chains(refusals, node_shut_out(guarded, ""))
    tables = {"nat": nat_chains(options), "filter": filters}
    wanted = Wanted({name: spelled(chains, family) for name, chains in tables.items()}, IPVS_JUMPS)
    assert node.call(Node.constant, wanted, family) == 0


def test_single_changes_end_where_a_fresh_load_ends(node: Worker) -> None:
    node.call(Node.sync, "iptables", EVERY_KIND, HALF, EVERY_KIND, HALF)
    stepwise = node.call(Node.tables)
    node.call(remove_rules)
    node.call(Node.sync, "iptables", HALF)
    assert node.call(Node.tables) == stepwise


def test_foreign_rules_stay(node: Worker) -> None:
    node.call(shell, FOREIGN)
    before = node.call(Node.tables)
    for mode in ("iptables", "userspace", "iptables"):
        node.call(Node.sync, mode, EVERY_KIND, HALF)
        now = node.call(Node.tables)
        for table in TABLES:
            for chain, rules in before[table].items():
                assert [rule for rule in now[table][chain] if rule in rules] == list(rules)
    node.call(remove_rules)
    assert {
        table: {chain: rules for chain, rules in chains.items() if rules or owns(chain)}
        for table, chains in node.call(Node.tables).items()
    } == {
        table: {chain: rules for chain, rules in chains.items() if rules} for table, chains in before.items()
    }


DAMAGE = [
    "iptables -t nat -F KUBE-SERVICES",
    "iptables -t nat -D KUBE-SERVICES 3; iptables -t nat -D KUBE-SERVICES 1",
    "iptables -t nat -I KUBE-SERVICES -j RETURN",
    "iptables -t nat -F PREROUTING",
    "iptables -I FORWARD -j KUBE-SERVICES",
    "iptables -t nat -F; iptables -t nat -X; iptables -F; iptables -X",
]


@pytest.mark.parametrize("script", DAMAGE)
@pytest.mark.feature("A16", "D11")
def test_a_repair_mends_what_was_changed_by_hand(node: Worker, script: str) -> None:
    same, changes = node.call(Node.damaged, script, True)
    assert changes
    assert same


def test_a_sync_that_meets_damage_mends_it_at_once(node: Worker) -> None:
    """The restore fails, since what it is to delete is gone; then the tables are read anew."""
    same, _ = node.call(Node.damaged, "iptables -t nat -F; iptables -t nat -X", False)
    assert same
