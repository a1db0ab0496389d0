"""The rows of the NAT correctness matrix: who sends what to which Service. What must happen, the oracle says.

The scene: `NEAR` and `CALLER` are Pods on the first node, `FAR` is one on the second, each the only backend
of the Service of its name; `ALL` has the three of them as backends, `NONE` has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

NEAR, FAR, CALLER, ALL, NONE = "near", "far", "caller", "all", "none"
FIRST, SECOND, CLIENT = "node01", "node02", "client"

HOMES = {NEAR: FIRST, CALLER: FIRST, FAR: SECOND}
"""The backends, and the node each is on."""

SERVICE_PORT = 80
TARGET_PORT = 8080
NODE_PORTS = {NEAR: 30080, FAR: 30081, CALLER: 30082, ALL: 30083, NONE: 30084}
PROTOCOLS = ("TCP", "UDP")


class To(StrEnum):
    """What is addressed."""

    POD = "pod"
    CLUSTER_IP = "cluster-ip"
    NODE_PORT = "node-port"


@dataclass(frozen=True)
class Case:
    """One row. `source`: who sends, as seen from the backend; `actor`: the Pod or machine that this is.

    `via`: the node whose node port is called, or through which the outside client reaches the Service range.
    `port`: the port addressed. `count`: how many times, each with a new source port.
    """

    to: To
    service: str
    source: str
    actor: str
    protocol: str
    port: int
    via: str = ""
    count: int = 1
    family: str = "IPv4"

    @property
    def name(self) -> str:
        """`node-port/far/client/via-node01/udp`: unique, and what `--cases` matches."""
        extra = [f"via-{self.via}"] if self.via else []
        extra += [f"port-{self.port}"] if self.to is To.POD and self.port != TARGET_PORT else []
        extra += ["spread"] if self.count > 1 else []
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

SPREAD = 400
"""Connections in a test of distribution: enough to tell (1/2, 1/4, 1/4) from thirds at `ERROR_RATE`."""

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


CASES: tuple[Case, ...] = (
    *(case for protocol in PROTOCOLS for case in _rows(protocol)),
    Case(To.CLUSTER_IP, ALL, "pod", CALLER, "TCP", SERVICE_PORT, count=SPREAD),
    Case(To.NODE_PORT, ALL, "client", CLIENT, "UDP", NODE_PORTS[ALL], FIRST, count=SPREAD),
)
