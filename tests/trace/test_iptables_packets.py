"""A row is a packet: through the rules of iptables mode as rendered, without root."""

from __future__ import annotations

import pytest
from netfilter import Fate, Packet, Trace
from packet_rows import (
    BOTH,
    CLIENT,
    FAR,
    LB,
    NODE,
    ONE,
    OPTIONS,
    OPTIONS_6,
    OTHER,
    POD,
    ROWS,
    ROWS_6,
    SNAPSHOT,
    SNAPSHOT_6,
    apart,
    expected,
    packet,
)

from testbed.kernel.ruleset import Wanted
from testbed.model.service import Snapshot
from testbed.proxy.modes.iptables import Iptables
from testbed.proxy.options import ProxyOptions


def fate(packet: Packet, snapshot: Snapshot = SNAPSHOT, options: ProxyOptions = OPTIONS) -> Fate:
    return Trace(Iptables(options).render(snapshot)).fate(packet)


@pytest.mark.parametrize(("source", "destination", "outcome", "hidden"), [*map(apart, ROWS)])
@pytest.mark.feature("A16")
def test_packet(source: str, destination: str, outcome: set[str] | str, hidden: bool) -> None:
    assert fate(packet(source, destination)) == expected(outcome, hidden)


@pytest.mark.parametrize(("source", "destination", "outcome", "hidden"), ROWS_6)
@pytest.mark.feature("B9")
def test_packet_in_ipv6(source: str, destination: str, outcome: set[str] | str, hidden: bool) -> None:
    assert fate(packet(source, destination), SNAPSHOT_6, OPTIONS_6) == expected(outcome, hidden)


@pytest.mark.feature("B7", "B8")
def test_hairpin_is_masqueraded() -> None:
    """A Pod that meets itself through its Service must get the answer from the node, not from itself."""
    assert fate(packet(POD, "10.96.0.5:80")) == Fate("ACCEPT", frozenset(ONE), True)


def test_other_protocol_is_left_alone() -> None:
    assert fate(packet(OTHER, "10.96.0.1:80", "udp")) == Fate("ACCEPT", frozenset({"10.96.0.1:80"}), False)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [(ProxyOptions(), False), (ProxyOptions(masquerade_all=True), True)],
    ids=["no cluster CIDR", "masquerade all"],
)
@pytest.mark.feature("B8")
def test_masquerading_to_cluster_ips(options: ProxyOptions, hidden: bool) -> None:
    for source in (OTHER, CLIENT):
        assert fate(packet(source, "10.96.0.1:80"), options=options) == Fate(
            "ACCEPT", frozenset(BOTH), hidden
        )


@pytest.mark.feature("A5")
def test_node_port_addresses() -> None:
    elsewhere = Snapshot(SNAPSHOT.services, ("192.0.2.1",), node_ports_anywhere=False)
    there = fate(packet(CLIENT, f"{NODE}:30001"), elsewhere)
    assert there == Fate("ACCEPT", frozenset({f"{NODE}:30001"}), False)


FAULTS = [
    # a rule with this in it is taken out, and this packet must show it
    ("10.244.1.2/32", (POD, "10.96.0.5:80"), ONE, True),
    ("! -s 10.244.0.0/16", (CLIENT, "10.96.0.1:80"), BOTH, True),
    ("masquerade traffic for default/s1 ", (CLIENT, f"{NODE}:30001"), BOTH, True),
    ("pod traffic for default/s4 ", (OTHER, f"{NODE}:30004"), FAR, False),
    ("s2 has no endpoints", (POD, "10.96.0.2:80"), "REJECT", False),
    ("s4 has no local endpoints", (CLIENT, f"{NODE}:30004"), "DROP", False),
    ("traffic not accepted", (CLIENT, f"{LB}:80"), "DROP", False),
]


@pytest.mark.parametrize(("fault", "way", "outcome", "hidden"), FAULTS)
def test_a_missing_rule_is_noticed(
    fault: str, way: tuple[str, str], outcome: set[str] | str, hidden: bool
) -> None:
    wanted = Iptables(OPTIONS).render(SNAPSHOT)
    tables = {
        table: {chain: tuple(rule for rule in rules if fault not in rule) for chain, rules in chains.items()}
        for table, chains in wanted.tables.items()
    }
    due = expected(outcome, hidden)
    assert Trace(wanted).fate(packet(*way)) == due
    assert Trace(Wanted(tables, wanted.jumps)).fate(packet(*way)) != due
