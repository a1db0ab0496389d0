"""Who may answer for a Service port on this node: readiness, termination, topology and traffic policy. Pure.

Source: kubernetes pkg/proxy/topology.go; KEP-1669 (terminating), KEP-2433 and KEP-3015 (hints),
KEP-2086 (internal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from testbed.model.service import Endpoint, Protocol, Refusal, Route, ServicePort
from testbed.proxy.objects import Backend

NODES, ZONES = attrgetter("nodes"), attrgetter("zones")

Offer = tuple[Sequence[Backend], int]
"""The endpoints of an EndpointSlice, and the port they serve a Service port on."""
Chosen = list[tuple[Backend, int]]
"""Endpoints, sorted by address, and of which offer each is."""


@dataclass(frozen=True)
class Choice:
    """Who may answer, whatever the port: by the policies Cluster and Local; and who serves at all."""

    cluster: Chosen
    local: Chosen
    serving: Chosen
    distinct: bool
    """No address is there twice."""


class Router:
    """Routes of a Service's ports, seen from `node` in `zone`. Ports of the same slices share a Choice."""

    def __init__(self, node: str, zone: str = "") -> None:
        self._node = node
        self._zone = zone
        self._choices: dict[tuple[int, ...], Choice] = {}

    def routed(self, service: ServicePort, offers: Sequence[Offer]) -> ServicePort:
        """`service` with its routes."""
        key = tuple(id(backends) for backends, _ in offers)
        choice = self._choices.get(key)
        if choice is None:
            choice = self._choices[key] = self._choose([backends for backends, _ in offers])
        numbers = [number for _, number in offers]
        cluster = self._endpoints(choice.cluster, numbers, choice.distinct)
        local = self._endpoints(choice.local, numbers, choice.distinct)
        # Endpoints elsewhere only: the policy Local drops, since another node could answer
        refusal = Refusal.DROP if cluster else Refusal.REJECT
        serving: frozenset[tuple[str, int]] = frozenset()
        if service.protocol is not Protocol.TCP:
            serving = frozenset((one.ip, numbers[offer]) for one, offer in choice.serving)
        return replace(service, cluster=Route(cluster), local=Route(local, refusal), serving=serving)

    def _choose(self, slices: list[Sequence[Backend]]) -> Choice:
        every = [(backend, offer) for offer, backends in enumerate(slices) for backend in backends]
        every.sort(key=lambda one: one[0].ip)
        here = [one for one in every if one[0].node == self._node]
        serving = [one for one in every if one[0].serving]
        distinct = len({one.ip for one, _ in every}) == len(every)
        cluster = self._near(_ready(every)) or _ending(every)
        return Choice(cluster, _ready(here) or _ending(here), serving, distinct)

    def _near(self, ready: Chosen) -> Chosen:
        """Those hinted for the node, if all have such a hint and one is for it; else so by zone; else all."""
        for place, hints in ((self._node, NODES), (self._zone, ZONES)):
            near = [(one, offer) for one, offer in ready if place in hints(one)]
            if near and all(hints(one) for one, _ in ready):
                return near
        return ready

    def _endpoints(self, chosen: Chosen, numbers: Sequence[int], distinct: bool) -> tuple[Endpoint, ...]:
        """Sorted, each address and port once though several slices hold it."""
        found = [Endpoint(one.ip, numbers[offer], one.node == self._node) for one, offer in chosen]
        if distinct:
            return tuple(found)
        places: dict[tuple[str, int], Endpoint] = {}
        for one in sorted(found):  # the local one of two comes last, and stays
            places[one.ip, one.port] = one
        return tuple(places.values())


def _ready(chosen: Chosen) -> Chosen:
    return [one for one in chosen if one[0].ready]


def _ending(chosen: Chosen) -> Chosen:
    """For when none is ready: those that terminate and still serve."""
    return [one for one in chosen if one[0].serving and one[0].terminating]
