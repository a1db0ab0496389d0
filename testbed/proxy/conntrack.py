"""Which connections the kernel still remembers though the rules have changed, so that they are forgotten.

A TCP peer notices a dead backend and connects anew, from another port. A UDP client with a fixed source port
never does (kubernetes #48370, #125467); an SCTP one begins again from that port, into the old translation.
As upstream since 1.32 (pkg/proxy/conntrack), the kernel's flow table is compared with what is wanted, so it
does not matter what an agent saw. Other than upstream, a Service without endpoints keeps no flows either.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.kernel.conntrack import Flow, Front, flows, forget
from testbed.model.service import Protocol, ServicePort, Snapshot

log = logging.getLogger(__name__)

PROTOCOLS = {Protocol.UDP: socket.IPPROTO_UDP, Protocol.SCTP: socket.IPPROTO_SCTP}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

Routes = dict[tuple[int, Front], frozenset[Front]]
"""By protocol number and front: the backends that a flow may have there."""


def fronts(service: ServicePort, node_ips: tuple[str, ...]) -> Iterator[Front]:
    """Every address and port of the Service that clients send to."""
    for ip in (service.cluster_ip, *service.public_ips):
        yield ip, service.port
    if service.node_port:
        for ip in node_ips:
            yield ip, service.node_port


def backends(service: ServicePort) -> frozenset[Front]:
    """Those that may keep the flows they have: who serves, whatever policy and topology say of new ones."""
    return service.serving | {(one.ip, one.port) for one in service.endpoints}


def routes(snapshot: Snapshot, family: int = 4) -> Routes:
    node_ips = (*snapshot.node_port_ips, LOOPBACK[family])
    return {
        (number, front): allowed
        for service in snapshot.services.values()
        if (number := PROTOCOLS.get(service.protocol))
        for allowed in [backends(service)]
        for front in fronts(service, node_ips)
    }


@dataclass(frozen=True)
class Reconciled:
    """What one look at the flow table came to. `seconds`: how long it took."""

    forgotten: int
    seconds: float


class Reconciler:
    """After a sync, forgets flows through a Service front to a backend that does not serve it.

    A flow that the rules did not translate, since nobody could answer when it began, has the front itself
    as its backend: it goes too, when the Service gets its first endpoint.
    """

    def __init__(self, family: int = 4) -> None:
        self.family = family
        self._routes: Routes = {}

    def after_sync(self, snapshot: Snapshot, *, repair: bool = False) -> Reconciled | None:
        """Looks at the fronts that have changed, with `repair` at all; None if there are none to look at."""
        wanted = routes(snapshot, self.family)
        every = self._routes.keys() | wanted.keys()
        looked = every if repair else {one for one in every if self._routes.get(one) != wanted.get(one)}
        if not looked:
            return None
        started = time.monotonic()
        allowed = {one: wanted.get(one, frozenset()) for one in looked}
        stale = [one for one in flows(PROTOCOLS.values(), self.family) if _stale(one, allowed)]
        count = forget(stale, self.family)
        self._routes = wanted
        if count:
            log.info("Forgot %d stale connections", count)
        return Reconciled(count, time.monotonic() - started)


def _stale(flow: Flow, allowed: Routes) -> bool:
    kept = allowed.get((flow.protocol, flow.front))
    return kept is not None and flow.backend not in kept
