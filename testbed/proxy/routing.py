"""Who may answer for a Service port on this node: readiness, termination, topology and traffic policy. Pure.

Source: kubernetes pkg/proxy/topology.go; KEP-1669 (terminating), KEP-2433 (hints), KEP-2086 (internal).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from testbed.model.service import Endpoint, Refusal, Route, ServicePort
from testbed.proxy.objects import Backend


def routed(service: ServicePort, backends: Iterable[Backend], node: str, zone: str = "") -> ServicePort:
    """`service` with its routes, seen from `node` in `zone`."""
    every = list(backends)
    here = [backend for backend in every if backend.node == node]
    cluster = _endpoints(_near(_usable(every), zone), node)
    local = _endpoints(_usable(here), node)
    # Endpoints elsewhere only: the policy Local drops, since another node could answer
    refusal = Refusal.DROP if cluster else Refusal.REJECT
    return replace(service, cluster=Route(cluster), local=Route(local, refusal))


def _usable(backends: list[Backend]) -> list[Backend]:
    """The ready ones; if there is none, those that terminate and still serve."""
    ready = [backend for backend in backends if backend.ready]
    return ready or [backend for backend in backends if backend.serving and backend.terminating]


def _near(backends: list[Backend], zone: str) -> list[Backend]:
    """Those hinted for `zone`, if every one has a hint and one is for it; else all."""
    if zone and all(backend.zones for backend in backends):
        return [backend for backend in backends if zone in backend.zones] or backends
    return backends


def _endpoints(backends: list[Backend], node: str) -> tuple[Endpoint, ...]:
    """Sorted, each address once though several slices hold it."""
    local: dict[tuple[str, int], bool] = {}
    for backend in backends:
        address = (backend.ip, backend.port)
        local[address] = local.get(address, False) or backend.node == node
    return tuple(Endpoint(ip, port, here) for (ip, port), here in sorted(local.items()))
