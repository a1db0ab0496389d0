"""The rows of the NAT correctness matrix: who sends what to which Service. What must happen, the oracle says.

The Services and Pods that they are about: `testbed.model.offers`; the tables: `testbed.model.rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from testbed.model.families import VERSIONS, family, version_of
from testbed.model.offers import (
    ALL,
    ALL_LOCAL,
    CALLER,
    CLIENT,
    FAR,
    FIRST,
    NEAR,
    NODE_PORTS,
    OFFERS,
    PROTOCOLS,
    SCTP,
    SECOND,
    SERVICE_PORT,
    TARGET_PORT,
)
from testbed.model.rows import (
    ABROAD,
    BYSTANDERS,
    CONDITIONS,
    DEAF_ENDS,
    FAMILIES,
    FEW,
    LARGE,
    LOCAL_POLICY,
    MESSAGES,
    NEAREST,
    OUTSIDE,
    PROXIED,
    RANGES,
    REFUSED,
    SIZES,
    SOURCES,
    SPREAD,
)
from testbed.model.rows import To as To


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
    plain = (*LOCAL_POLICY, *RANGES, *CONDITIONS, *DEAF_ENDS, *PROXIED, *FAMILIES)
    for to, service, source, actor, via in plain:
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
    *(Case(to, name, source, actor, SCTP, _port(to, name), via) for to, name, source, actor, via in MESSAGES),
    Case(To.CLUSTER_IP, ALL, "pod", CALLER, "TCP", SERVICE_PORT, count=SPREAD),
    Case(To.NODE_PORT, ALL, "client", CLIENT, "UDP", NODE_PORTS[ALL], FIRST, count=SPREAD),
    Case(To.NODE_PORT, ALL_LOCAL, "client", CLIENT, "TCP", NODE_PORTS[ALL_LOCAL], FIRST, count=FEW),
    Case(To.NODE_PORT, ALL_LOCAL, "client", CLIENT, "TCP", NODE_PORTS[ALL_LOCAL], SECOND, count=FEW),
    Case(To.CLUSTER_IP, ALL_LOCAL, "pod", FAR, "TCP", SERVICE_PORT, count=FEW),
    Case(To.CLUSTER_IP, ALL_LOCAL, "pod", CALLER, "UDP", SERVICE_PORT, count=FEW),
)


def _fits(row: Case) -> bool:
    """A Service has a cluster IP in its own families only.

    An IPv6 router does not make fragments of a datagram that is too large for the way on.
    """
    if row.to is To.CLUSTER_IP and row.version not in OFFERS[row.service].versions:
        return False
    narrow = row.service == FAR and row.size and row.protocol == "UDP"
    return row.version == 4 or not narrow


CASES = tuple(filter(_fits, (replace(row, family=family(version)) for version in VERSIONS for row in _ROWS)))
"""Every row in both families, as far as it has both."""

_LIVE = (
    "health-check/tcp",
    "invalid/tcp",
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
