"""Which UDP connections the kernel still remembers though the rules have changed, so that they are forgotten.

TCP and SCTP peers notice a dead backend and connect anew; a UDP client with a fixed source port never does
(kubernetes #48370, #125467).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from testbed.kernel.conntrack import forget
from testbed.model.service import Protocol, Route, ServicePort, Snapshot

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1")
Front = tuple[str, int]
"""Address and port that clients send to."""


def fronts(service: ServicePort, node_ips: tuple[str, ...]) -> Iterator[tuple[Front, Route]]:
    """Every address and port of the Service that clients send to, and who may answer there."""
    yield (service.cluster_ip, service.port), service.internal
    for ip in service.public_ips:
        yield (ip, service.port), service.external
    if service.node_port:
        for ip in node_ips:
            yield (ip, service.node_port), service.external


def udp_routes(snapshot: Snapshot) -> dict[Front, frozenset[Front]]:
    """Which backends may answer on each UDP front. The cluster's own traffic may always go to `cluster`."""
    return {
        front: frozenset((one.ip, one.port) for one in (*route.endpoints, *service.cluster.endpoints))
        for service in snapshot.services.values()
        if service.protocol is Protocol.UDP
        for front, route in fronts(service, (*snapshot.node_port_ips, *LOOPBACK))
    }


class Reconciler:
    """After each sync, forgets UDP flows through a Service front to a backend that is not allowed there.

    A flow that the rules did not translate, since nobody could answer when it began, has the front itself
    as its backend: it goes too, when the Service gets its first endpoint.
    """

    def __init__(self, family: int = 4) -> None:
        self._family = family
        self._routes: dict[Front, frozenset[Front]] = {}

    def after_sync(self, snapshot: Snapshot) -> int:
        """Returns the number of flows forgotten. The kernel is asked only if a UDP front has changed."""
        routes = udp_routes(snapshot)
        before, self._routes = self._routes, routes
        changed = {front for front in before.keys() | routes.keys() if before.get(front) != routes.get(front)}
        if not changed:
            return 0
        allowed = {front: routes.get(front, frozenset()) for front in changed}
        count = forget(
            lambda flow: flow.front in allowed and flow.backend not in allowed[flow.front], self._family
        )
        if count:
            log.info("Forgot %d stale UDP connections", count)
        return count
