"""The rows of the NAT correctness matrix: who sends what to which Service. What must happen, the oracle says.

The Services and Pods that they are about: `testbed.model.offers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from testbed.model.families import VERSIONS, family, version_of
from testbed.model.offers import (
    ALL,
    ALL_LOCAL,
    BEHIND,
    CALLER,
    CLIENT,
    CLOSED,
    DEAF,
    ENDING,
    FAR,
    FAR_DEAF,
    FAR_INSIDE,
    FAR_LOCAL,
    FIRST,
    GUARDED,
    HALF_ENDING,
    HINTED,
    HOMELY,
    KIN,
    NEAR,
    NEAR_INSIDE,
    NEAR_LOCAL,
    NODE_PORTS,
    NONE,
    PROTOCOLS,
    PUBLISHED,
    SECOND,
    SERVICE_PORT,
    TARGET_PORT,
    UNREADY,
)


class To(StrEnum):
    """What is addressed."""

    POD = "pod"
    CLUSTER_IP = "cluster-ip"
    NODE_PORT = "node-port"
    EXTERNAL_IP = "external-ip"
    LOAD_BALANCER = "load-balancer"


@dataclass(frozen=True)
class Case:
    """One row. `source`: who sends, as seen from the backend; `actor`: the Pod or machine that this is.

    `via`: the node whose node port is called, or through which the outside client comes to a Service.
    `port`: the port addressed. `count`: how many times, each with a new source port. `size`: bytes of the
    question, and over UDP of the answer; 0: as short as they are. `family`: IPv4 or IPv6.
    """

    to: To
    service: str
    source: str
    actor: str
    protocol: str
    port: int
    via: str = ""
    count: int = 1
    size: int = 0
    family: str = "IPv4"

    @property
    def version(self) -> int:
        return version_of(self.family)

    @property
    def name(self) -> str:
        """`node-port/far/client/via-node01/udp`, `…/ipv6/udp`: unique, and what `--cases` matches."""
        extra = [f"via-{self.via}"] if self.via else []
        extra += [f"port-{self.port}"] if self.to is To.POD and self.port != TARGET_PORT else []
        extra += [f"{self.size}-bytes"] if self.size else []
        extra += ["spread"] if self.count > 1 else []
        extra += [] if self.family == "IPv4" else [self.family.lower()]
        return "/".join([self.to, self.service, self.source, *extra, self.protocol.lower()])


SOURCES: tuple[tuple[str, str, str], ...] = (
    (NEAR, "same-node-pod", CALLER),
    (FAR, "other-node-pod", CALLER),
    (CALLER, "itself", CALLER),
    (NEAR, "node", FIRST),
    (FAR, "node", SECOND),
    (NEAR, "other-node", SECOND),
    (FAR, "other-node", FIRST),
)
"""Service, source, actor: each backend as seen from everywhere in the cluster."""

OUTSIDE: tuple[tuple[str, str, str], ...] = ((NEAR, "client", CLIENT), (FAR, "client", CLIENT))

REFUSED: tuple[tuple[str, str, str], ...] = (
    (NONE, "pod", CALLER),
    (NONE, "node", FIRST),
    (NONE, "client", CLIENT),
)

BYSTANDERS = (SERVICE_PORT, NODE_PORTS[NEAR])
"""Ports that Services use too. The Pods listen on them; traffic to a Pod must not meet a Service's rules."""

ABROAD: tuple[tuple[str, str, str, str], ...] = (
    (NEAR, "same-node-pod", CALLER, ""),
    (FAR, "other-node-pod", CALLER, ""),
    (NEAR, "itself", NEAR, ""),
    (NEAR, "node", FIRST, ""),
    (FAR, "other-node", FIRST, ""),
    (NEAR, "client", CLIENT, FIRST),
    (FAR, "client", CLIENT, FIRST),
    (NONE, "pod", CALLER, ""),
    (NONE, "node", FIRST, ""),
    (NONE, "client", CLIENT, FIRST),
)
"""Service, source, actor, via: to addresses outside of every range of the cluster."""

LOCAL_POLICY: tuple[tuple[To, str, str, str, str], ...] = (
    (To.NODE_PORT, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "client", CLIENT, SECOND),
    (To.NODE_PORT, FAR_LOCAL, "client", CLIENT, FIRST),
    (To.NODE_PORT, FAR_LOCAL, "client", CLIENT, SECOND),
    (To.NODE_PORT, NEAR_LOCAL, "node", FIRST, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "other-node", SECOND, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "other-node", SECOND, SECOND),
    (To.NODE_PORT, FAR_LOCAL, "other-node", FIRST, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "same-node-pod", CALLER, FIRST),
    (To.NODE_PORT, FAR_LOCAL, "other-node-pod", CALLER, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "itself", NEAR, FIRST),
    (To.EXTERNAL_IP, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.EXTERNAL_IP, NEAR_LOCAL, "client", CLIENT, SECOND),
    (To.EXTERNAL_IP, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, FAR_LOCAL, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, FAR_LOCAL, "other-node", FIRST, ""),
    (To.CLUSTER_IP, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "other-node-pod", FAR, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "itself", NEAR, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "node", FIRST, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, FAR_INSIDE, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR_INSIDE, "other-node", FIRST, ""),
    (To.CLUSTER_IP, FAR_INSIDE, "client", CLIENT, FIRST),
)
"""What is addressed, Service, source, actor, via: the nodes with a backend, and those without."""

RANGES: tuple[tuple[To, str, str, str, str], ...] = (
    (To.LOAD_BALANCER, GUARDED, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, GUARDED, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, CLOSED, "client", CLIENT, FIRST),
    (To.NODE_PORT, CLOSED, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, CLOSED, "same-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, KIN, "other-node", FIRST, ""),
    (To.LOAD_BALANCER, KIN, "node", SECOND, ""),
    (To.LOAD_BALANCER, KIN, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, KIN, "other-node-pod", CALLER, ""),
)
"""`loadBalancerSourceRanges`: who is in, who is not, and where they do not matter. Columns as above."""

CONDITIONS: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, UNREADY, "pod", CALLER, ""),
    (To.NODE_PORT, UNREADY, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, PUBLISHED, "same-node-pod", CALLER, ""),
    (To.NODE_PORT, PUBLISHED, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, ENDING, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, ENDING, "other-node-pod", FAR, ""),
    (To.NODE_PORT, ENDING, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, HALF_ENDING, "pod", CALLER, ""),
    (To.NODE_PORT, HALF_ENDING, "client", CLIENT, FIRST),
    (To.NODE_PORT, HALF_ENDING, "client", CLIENT, SECOND),
)
"""Endpoints not ready, published nevertheless, or terminating: of HALF_ENDING, that on the first node is."""

DEAF_ENDS: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, DEAF, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR_DEAF, "other-node-pod", CALLER, ""),
    (To.NODE_PORT, DEAF, "client", CLIENT, FIRST),
    (To.NODE_PORT, FAR_DEAF, "client", CLIENT, FIRST),
)
"""The backend itself refuses. What it says is translated back: the sender hears of what it addressed."""

PROXIED: tuple[tuple[To, str, str, str, str], ...] = (
    (To.LOAD_BALANCER, BEHIND, "same-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, BEHIND, "node", FIRST, ""),
    (To.LOAD_BALANCER, BEHIND, "other-node", SECOND, ""),
    (To.NODE_PORT, BEHIND, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, BEHIND, "same-node-pod", CALLER, ""),
)
"""ipMode Proxy: no short cut to the load balancer's address."""

LARGE: tuple[tuple[To, str, str, str, str], ...] = (
    (To.POD, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, CALLER, "itself", CALLER, ""),
    (To.NODE_PORT, FAR, "client", CLIENT, FIRST),
    (To.NODE_PORT, NEAR, "client", CLIENT, SECOND),
    (To.EXTERNAL_IP, FAR, "client", CLIENT, FIRST),
)
"""Datagrams that go in fragments both ways; over TCP, segments too large for the way to FAR (`PATH_MTU`)."""

SIZES = {"UDP": 4000, "TCP": 2000}

NEAREST: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, HINTED, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, HINTED, "itself", FAR, ""),
    (To.NODE_PORT, HINTED, "client", CLIENT, FIRST),
    (To.NODE_PORT, HINTED, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, HOMELY, "pod", FAR, ""),
    (To.NODE_PORT, HOMELY, "client", CLIENT, FIRST),
    (To.NODE_PORT, HOMELY, "client", CLIENT, SECOND),
)
"""Topology hints and `trafficDistribution`: the endpoints of the zone or node, `FEW` times."""

SPREAD = 400
"""Connections in a test of distribution: enough to tell (1/2, 1/4, 1/4) from thirds at `ERROR_RATE`."""

FEW = 40
"""Connections that show that an endpoint is never chosen, of three with equal chances."""

ERROR_RATE = 1e-6
"""How often the test of distribution may fail a proxy that chooses rightly."""


def _rows(protocol: str) -> Iterator[Case]:
    for service, source, actor in (*SOURCES[:2], *SOURCES[3:]):
        yield Case(To.POD, service, source, actor, protocol, TARGET_PORT)
    for port in BYSTANDERS:
        for service, source, actor in SOURCES[:2]:
            yield Case(To.POD, service, source, actor, protocol, port)
    for service, source, actor in (*SOURCES, *OUTSIDE, *REFUSED):
        via = FIRST if actor == CLIENT else ""
        yield Case(To.CLUSTER_IP, service, source, actor, protocol, SERVICE_PORT, via)
    for service, source, actor in (*SOURCES, *OUTSIDE, *REFUSED):
        for via in (FIRST, SECOND):
            yield Case(To.NODE_PORT, service, source, actor, protocol, NODE_PORTS[service], via)
    for to in (To.EXTERNAL_IP, To.LOAD_BALANCER):
        for service, source, actor, via in ABROAD:
            yield Case(to, service, source, actor, protocol, SERVICE_PORT, via)
    yield Case(To.EXTERNAL_IP, NEAR, "client", CLIENT, protocol, SERVICE_PORT, SECOND)
    for to, service, source, actor, via in (*LOCAL_POLICY, *RANGES, *CONDITIONS, *DEAF_ENDS, *PROXIED):
        yield Case(to, service, source, actor, protocol, _port(to, service), via)
    for to, service, source, actor, via in LARGE:
        yield Case(to, service, source, actor, protocol, _port(to, service), via, size=SIZES[protocol])
    for to, service, source, actor, via in NEAREST:
        yield Case(to, service, source, actor, protocol, _port(to, service), via, count=FEW)


def _port(to: To, service: str) -> int:
    ports = {To.POD: TARGET_PORT, To.NODE_PORT: NODE_PORTS.get(service, 0)}
    return ports.get(to, SERVICE_PORT)


_ROWS: tuple[Case, ...] = (
    *(case for protocol in PROTOCOLS for case in _rows(protocol)),
    Case(To.CLUSTER_IP, ALL, "pod", CALLER, "TCP", SERVICE_PORT, count=SPREAD),
    Case(To.NODE_PORT, ALL, "client", CLIENT, "UDP", NODE_PORTS[ALL], FIRST, count=SPREAD),
    Case(To.NODE_PORT, ALL_LOCAL, "client", CLIENT, "TCP", NODE_PORTS[ALL_LOCAL], FIRST, count=FEW),
    Case(To.NODE_PORT, ALL_LOCAL, "client", CLIENT, "TCP", NODE_PORTS[ALL_LOCAL], SECOND, count=FEW),
    Case(To.CLUSTER_IP, ALL_LOCAL, "pod", FAR, "TCP", SERVICE_PORT, count=FEW),
    Case(To.CLUSTER_IP, ALL_LOCAL, "pod", CALLER, "UDP", SERVICE_PORT, count=FEW),
)


def _fits(row: Case) -> bool:
    """An IPv6 router does not make fragments of a datagram that is too large for the way on."""
    narrow = row.service == FAR and row.size and row.protocol == "UDP"
    return row.version == 4 or not narrow


CASES = tuple(filter(_fits, (replace(row, family=family(version)) for version in VERSIONS for row in _ROWS)))
"""Every row in both families."""

_LIVE = (
    "health-check/tcp",
    "affinity/held/tcp",
    "affinity/held/udp",
    "moved/tcp",
    "moved/udp",
    "kept/removal/tcp",
    "emptied/tcp",
    "emptied/udp",
    "refilled/tcp",
    "refilled/udp",
    "affinity/off/tcp",
    "kept/syncs/tcp",
    "affinity/forgotten/tcp",
    "restarted/tcp",
    "kept/restart/tcp",
)


def live_name(row: str, version: int) -> str:
    """`live/moved/udp`, `live/moved/ipv6/udp`."""
    what, _, protocol = row.rpartition("/")
    return "/".join(["live", what, *([family(version).lower()] if version != 4 else []), protocol])


def live_version(name: str) -> int:
    return 6 if "/ipv6/" in name else 4


LIVE_CASES = tuple(live_name(row, version) for row in _LIVE for version in VERSIONS)
"""What is checked while the scene changes, after the other cases: one episode, in this order."""
