"""The same packets through the table of nftables mode as rendered, without root."""

from __future__ import annotations

from dataclasses import replace

import ipv6_twin
import pytest
from netfilter import Fate, Packet
from nft_trace import NftTrace, Wrong
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

from testbed.kernel.nft import Table
from testbed.model.service import Snapshot
from testbed.proxy.modes.nftables import Nftables
from testbed.proxy.options import ProxyOptions

STRAY = (POD, "10.96.0.1:81")
"""To a port that no Service has: kube-proxy's nftables mode refuses it, the other modes let it go its way."""


def rendered(snapshot: Snapshot = SNAPSHOT, options: ProxyOptions = OPTIONS) -> Table:
    return Nftables(options).render(snapshot)


def fate(one: Packet, snapshot: Snapshot = SNAPSHOT, options: ProxyOptions = OPTIONS) -> Fate:
    return NftTrace(rendered(snapshot, options)).fate(one)


@pytest.mark.parametrize(
    ("source", "destination", "outcome", "hidden"), [apart(row) for row in ROWS if row[:2] != STRAY]
)
@pytest.mark.feature("A15")
def test_packet(source: str, destination: str, outcome: set[str] | str, hidden: bool) -> None:
    assert fate(packet(source, destination)) == expected(outcome, hidden)


@pytest.mark.parametrize(
    ("source", "destination", "outcome", "hidden"),
    [row for row in ROWS_6 if row[1] != ipv6_twin.place(STRAY[1])],
)
@pytest.mark.feature("B9")
def test_packet_in_ipv6(source: str, destination: str, outcome: set[str] | str, hidden: bool) -> None:
    assert fate(packet(source, destination), SNAPSHOT_6, OPTIONS_6) == expected(outcome, hidden)


@pytest.mark.parametrize("source", [POD, NODE, CLIENT])
def test_a_port_of_no_service_is_refused(source: str) -> None:
    assert fate(packet(source, STRAY[1])) == Fate("REJECT")
    assert fate(packet(source, "10.96.0.1:80", "udp")) == Fate("REJECT")


@pytest.mark.feature("B7", "B8")
def test_hairpin_is_masqueraded() -> None:
    assert fate(packet(POD, "10.96.0.5:80")) == Fate("ACCEPT", frozenset(ONE), True)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [(ProxyOptions(), False), (ProxyOptions(masquerade_all=True), True)],
    ids=["no cluster CIDR", "masquerade all"],
)
def test_masquerading_to_cluster_ips(options: ProxyOptions, hidden: bool) -> None:
    for source in (OTHER, CLIENT):
        assert fate(packet(source, "10.96.0.1:80"), options=options) == expected(BOTH, hidden)


@pytest.mark.feature("A5")
def test_node_port_addresses() -> None:
    elsewhere = Snapshot(SNAPSHOT.services, ("192.0.2.1",), node_ports_anywhere=False)
    assert fate(packet(CLIENT, f"{NODE}:30001"), elsewhere) == expected({f"{NODE}:30001"}, False)


FAULTS = [
    # every rule or element with this in it is taken out, and this packet must show it
    ("ip saddr 10.244.1.2 jump", (POD, "10.96.0.5:80"), ONE, True),
    ("ip saddr != 10.244.0.0/16 jump", (CLIENT, "10.96.0.1:80"), BOTH, True),
    ("jump mark-for-masquerade", (CLIENT, f"{NODE}:30001"), BOTH, True),
    ("ip saddr 10.244.0.0/16 goto", (OTHER, f"{NODE}:30004"), FAR, False),
    ("fib saddr type local jump", (NODE, f"{NODE}:30004"), FAR, True),
    ("fib saddr type local goto", (NODE, f"{NODE}:30004"), FAR, True),
    ("10.96.0.6 . tcp . 80", (POD, "10.96.0.6:80"), "DROP", False),
    ("tcp . 30002", (CLIENT, f"{NODE}:30002"), "REJECT", False),
    ("tcp . 30004", (CLIENT, f"{NODE}:30004"), "DROP", False),
    ("firewall-check", (CLIENT, f"{LB}:80"), "DROP", False),
    ("@service-nodeports", (CLIENT, f"{NODE}:30001"), BOTH, True),
    ("meta mark set meta mark ^", (CLIENT, "10.96.0.1:80"), BOTH, True),
]


def without(table: Table, fault: str) -> Table:
    return replace(
        table,
        chains={name: tuple(r for r in rules if fault not in r) for name, rules in table.chains.items()},
        sets={
            name: replace(one, elements={k: v for k, v in one.elements.items() if fault not in k})
            for name, one in table.sets.items()
        },
    )


def seen(table: Table, one: Packet) -> Fate | Wrong:
    try:
        return NftTrace(table).fate(one)
    except Wrong as error:
        return error


@pytest.mark.parametrize(("fault", "way", "outcome", "hidden"), FAULTS)
def test_a_missing_rule_is_noticed(
    fault: str, way: tuple[str, str], outcome: set[str] | str, hidden: bool
) -> None:
    due = expected(outcome, hidden)
    assert NftTrace(rendered()).fate(packet(*way)) == due
    assert seen(without(rendered(), fault), packet(*way)) != due
