"""Who gets an address and port that several Services want, so that no mode has to find its own answer.

The API server keeps cluster IPs and node ports apart, but anybody may write another Service's address into
externalIPs, and a Service of another API server may hold anything. A cluster IP and a node port come before
addresses from outside; else the first by namespace and name has it. The others are served without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from testbed.model.service import ServicePort

log = logging.getLogger(__name__)

Front = tuple[str, str, int]
"""Protocol, address and port; a node port has the address ""."""
NODE = ""
OWN, OUTSIDE = 0, 1
"""How strong a claim is; the smaller wins."""


def fronts(spec: ServicePort) -> Iterator[tuple[Front, int]]:
    """What a Service port claims, and how strongly."""
    protocol = spec.protocol.value
    yield (protocol, spec.cluster_ip, spec.port), OWN
    for ip in spec.public_ips:
        yield (protocol, ip, spec.port), OUTSIDE
    if spec.node_port:
        yield (protocol, NODE, spec.node_port), OWN


class Claims:
    """What the Services want, by their keys."""

    def __init__(self) -> None:
        self._wanted: dict[Front, dict[str, int]] = {}
        self._told: dict[str, set[Front]] = {}

    def change(self, key: str, before: Iterable[ServicePort], after: Iterable[ServicePort]) -> set[str]:
        """A Service wants other fronts now; returns the keys of the Services that this may concern."""
        concerned: set[str] = set()
        for spec in before:
            for front, _ in fronts(spec):
                wanted = self._wanted.get(front, {})
                wanted.pop(key, None)
                concerned |= wanted.keys()
                if not wanted:
                    self._wanted.pop(front, None)
        for spec in after:
            for front, rank in fronts(spec):
                wanted = self._wanted.setdefault(front, {})
                wanted[key] = min(rank, wanted.get(key, rank))
                concerned |= wanted.keys()
        return concerned - {key}

    def granted(self, key: str, spec: ServicePort) -> ServicePort | None:
        """`spec` with what it may have; None if that is not even its cluster IP. Says what it may not."""
        lost = {front: winner for front, _ in fronts(spec) if (winner := self._winner(front)) != key}
        self._tell(spec, lost)
        if not lost:
            return spec
        protocol = spec.protocol.value
        if (protocol, spec.cluster_ip, spec.port) in lost:
            return None

        def kept(ips: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(ip for ip in ips if (protocol, ip, spec.port) not in lost)

        return replace(
            spec,
            external_ips=kept(spec.external_ips),
            load_balancer_ips=kept(spec.load_balancer_ips),
            node_port=0 if (protocol, NODE, spec.node_port) in lost else spec.node_port,
        )

    def _winner(self, front: Front) -> str:
        wanted = self._wanted[front]
        return min(wanted, key=lambda key: (wanted[key], key))

    def _tell(self, spec: ServicePort, lost: dict[Front, str]) -> None:
        told = self._told.pop(spec.name, set())
        for front, winner in lost.items():
            if front not in told:
                protocol, ip, port = front
                log.error(
                    'Service port "%s" wants %s/%s, which Service "%s" has: ignoring it there',
                    spec.name,
                    f"{ip}:{port}" if ip else f"node port {port}",
                    protocol,
                    winner,
                )
        if lost:
            self._told[spec.name] = set(lost)
