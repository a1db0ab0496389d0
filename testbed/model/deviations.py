"""Where a proxy mode, upstream too, does other than the oracle says, and why.

A row is checked like the oracle's own word: a mode that suddenly did better would fail, so that this table
stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from testbed.model.families import Address
from testbed.model.offers import SCTP
from testbed.model.oracle import (
    Fate,
    Flow,
    Outcome,
    World,
    addresses_of,
    aim_of,
    entry_node,
    expect,
    outgoing_address,
)


@dataclass(frozen=True)
class Deviation:
    """In `modes`, Service traffic meets what `change` makes of the oracle's word; None if that is right."""

    modes: tuple[str, ...]
    reason: str
    change: Callable[[World, Flow, Outcome], Outcome | None]


def _from_the_node(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    if not outcome.deliveries:
        return None
    entry = entry_node(world, flow)
    homes = {ip: pod["spec"]["nodeName"] for pod in world.pods for ip in addresses_of(pod)}
    heard = outcome.fate is Fate.ANSWERED  # what refuses the proxy says nothing to the sender

    def source(backend: Address) -> Address:
        return outgoing_address(entry, homes.get(str(backend), ""), backend.version)

    delivered = (replace(d, source=source(d.backend), port_kept=False) for d in outcome.deliveries)
    return Outcome(Fate.ANSWERED if heard else Fate.SILENCE, tuple(delivered))


def _no_stream(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    return Outcome(Fate.PORT_UNREACHABLE) if flow.protocol == SCTP else None


def _taken_first(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    return Outcome(Fate.CLOSED) if outcome.fate is Fate.RESET else None


def _unrefused(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    aim = aim_of(world, flow)
    to_node = any(flow.to in node.addresses for node in world.spec.nodes)
    refused = outcome.fate is Fate.PORT_UNREACHABLE
    return (
        Outcome(Fate.SENT_ON)
        if refused and flow.sender.host and aim and aim.external and not to_node
        else None
    )


def _from_the_node_itself(world: World, flow: Flow) -> bool:
    """To an outside address of a Service with policy Local, by a node through its own rules."""
    aim = aim_of(world, flow)
    local = aim and aim.external and aim.service["spec"].get("externalTrafficPolicy") == "Local"
    return bool(local and flow.sender.host and entry_node(world, flow).name == flow.sender.node)


def _own_source(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    if not _from_the_node_itself(world, flow) or flow.to != flow.sender.address:
        return None
    kept = (replace(d, source=flow.sender.address, port_kept=True) for d in outcome.deliveries)
    return Outcome(outcome.fate, tuple(kept))


def _no_way_back(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    if not _from_the_node_itself(world, flow) or flow.to == flow.sender.address:
        return None
    # The backend's node has that address too. IPv4 drops what comes from an own address, IPv6 lets it pass: a
    # datagram arrives (of TCP, the handshake never ends), and its answer stays on the backend's node. IPv4
    # does, too, where one came in a batch with another for the same backend: it takes that one's route
    # unchecked (ip_route_use_hint). Network cards hand over batches, veth does not.
    passes = flow.to.version == 6 and flow.protocol == "UDP"
    arriving = (replace(d, source=flow.to, port_kept=True) for d in outcome.deliveries if passes)
    return Outcome(Fate.SILENCE, tuple(arriving), may_arrive=flow.to.version == 4)


def _refused_at_once(world: World, flow: Flow, outcome: Outcome) -> Outcome | None:
    aim = aim_of(world, flow)
    inside = aim and not aim.external and flow.sender.host
    return Outcome(Fate.PORT_UNREACHABLE) if inside and outcome.fate is Fate.SILENCE else None


USERSPACE = ("userspace", "userspace-haproxy")

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        USERSPACE,
        "SCTP is refused at once: its messages are no stream of bytes (upstream it went past the rules)",
        _no_stream,
    ),
    Deviation(
        USERSPACE,
        "the proxy opens a connection of its own, so the backend always sees the node",
        _from_the_node,
    ),
    Deviation(
        USERSPACE,
        "the proxy has taken the connection before it knows that the backend refuses",
        _taken_first,
    ),
    Deviation(
        ("iptables", *USERSPACE),
        "KUBE-EXTERNAL-SERVICES refuses in INPUT and FORWARD: what a node itself sends goes its way",
        _unrefused,
    ),
    Deviation(
        ("ipvs",),
        "with policy Local nothing is masqueraded, not even what the node itself sends",
        _own_source,
    ),
    Deviation(
        ("ipvs",),
        "with policy Local nothing is masqueraded, and the node sends from the Service's own address",
        _no_way_back,
    ),
    Deviation(
        ("ipvs",),
        "IPVS without a server refuses what the node itself sends before the rule that drops sees it",
        _refused_at_once,
    ),
)


def expect_in(mode: str, world: World, flow: Flow) -> tuple[Outcome, str]:
    """What must happen to `flow` in `mode`; and the reason, if that is not what the oracle says."""
    outcome = expect(world, flow)
    if aim_of(world, flow) is None:
        return outcome, ""
    for row in DEVIATIONS:
        if mode in row.modes and (changed := row.change(world, flow, outcome)) not in (None, outcome):
            assert changed is not None
            return changed, row.reason
    return outcome, ""


LINGER_SECONDS = {"ipvs": 60.0}
"""How much longer than the affinity's timeout a mode remembers a client that has gone: when the timer of an
IPVS persistence template ends while connections of it linger, it is set for 60 s more (ip_vs_conn_expire)."""

LIVE_DEVIATIONS: Mapping[tuple[str, str], tuple[str, str]] = {
    (mode, "kept/restart/tcp"): (
        "every one closed",
        "the proxy itself carries the connections, and they end with it",
    )
    for mode in USERSPACE
} | {
    ("ipvs", "invalid/tcp"): (
        "answered, closed",
        "no rule drops what is invalid (pkg/proxy/ipvs/proxier.go): IPVS translates it for a client that is "
        "not masqueraded; for one that is, the node that it entered by resets the connection",
    ),
}
"""The same for live cases: what is seen instead, and why, by mode and case."""

LIVE_DEVIATIONS_OF_OTHERS: Mapping[str, tuple[str, str]] = {
    "emptied/udp": (
        "as before",
        "kube-proxy since 1.32 leaves the old flows of a Service without endpoints alone, by intent",
    ),
}
"""What a proxy of the user's may do instead of what is due, since kube-proxy does. Source: kubernetes
pkg/proxy/conntrack/cleanup.go, CleanStaleEntries."""
