"""The DNS process: the zone kept by informers, and the server on its sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

from testbed.client import Client, Informer, key_of
from testbed.dns.config import upstreams
from testbed.dns.records import is_headless, records_of
from testbed.dns.server import Server, Upstream
from testbed.dns.zone import Zone
from testbed.errors import UsageError
from testbed.model.families import bracketed
from testbed.model.resources import CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, SERVICES

log = logging.getLogger(__name__)
Object = dict[str, Any]

SERVICE_LABEL = "kubernetes.io/service-name"
TRIES = 10
"""For a port that is free for both protocols."""
RECEIVE_BUFFER = 1 << 20
"""Bytes: a burst of questions waits here rather than being lost."""


class Records:
    """Keeps a zone as the informers' objects are."""

    def __init__(self, zone: Zone, services: Informer, slices: Informer, namespaces: Informer) -> None:
        self._zone = zone
        self._services = services
        self._slices: dict[str, dict[str, Object]] = {}
        namespaces.subscribe(self._namespace_changed)
        slices.subscribe(self._slice_changed)
        services.subscribe(self._service_changed)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        self._zone.namespace((new or old or {})["metadata"]["name"], new is not None)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for obj, held in ((old, False), (new, True)):
            service = _service_of(obj) if obj else ""
            if obj and service:
                members = self._slices.setdefault(service, {})
                if held:
                    members[key_of(obj)] = obj
                else:
                    members.pop(key_of(obj), None)
                    if not members:
                        del self._slices[service]
        for service in {_service_of(obj) for obj in (old, new) if obj}:
            found = self._services.store.get(service)
            if found and is_headless(found):
                self._put(service, found)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        self._put(key_of(new or old or {}), new)

    def _put(self, key: str, service: Object | None) -> None:
        slices = list(self._slices.get(key, {}).values())
        self._zone.put(key, records_of(service, slices, self._zone.domain) if service else ())


def _service_of(obj: Object) -> str:
    """The key of the Service that an EndpointSlice belongs to, "" for one that has none."""
    name = (obj["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    return f"{obj['metadata']['namespace']}/{name}" if name else ""


def follow(server: Server, config: Informer, given: Sequence[Upstream]) -> None:
    """Ask elsewhere as the ConfigMap says; `given`, on the command line, where it is silent on a domain."""

    def changed(old: Object | None, new: Object | None) -> None:
        try:
            told = upstreams((new or {}).get("data") or {})
        except UsageError as error:
            log.error("ConfigMap %s: %s; what it said before stays", key_of(new or old or {}), error)
            return
        domains = {each.domain for each in told}
        server.ask_elsewhere([*told, *(each for each in given if each.domain not in domains)])
        log.info("asking elsewhere: %s", ", ".join(f"{each.domain or '.'}={each.address}" for each in told))

    config.subscribe(changed)


async def run(
    kubeconfig: str, domain: str, address: str, port: int, given: Sequence[Upstream], ttl: int, config: str
) -> None:
    """Serve for ever; the sockets open when the whole zone is known. Raises UsageError when they cannot.

    `config`: NAMESPACE/NAME of the ConfigMap that says who answers for other names.
    """
    async with Client.from_kubeconfig(kubeconfig, "kube-dns") as client:
        zone = Zone(domain, negative_ttl=ttl)
        namespace, _, name = config.partition("/")
        chosen = Informer(client, CONFIG_MAPS, namespace=namespace, field_selector=f"metadata.name={name}")
        kinds = (SERVICES, ENDPOINT_SLICES, NAMESPACES)
        informers = [*(Informer(client, kind) for kind in kinds), chosen]
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.synced.wait()
            services, slices, namespaces, _ = informers
            Records(zone, services, slices, namespaces)
            server = Server(zone, given, ttl)
            follow(server, chosen, given)
            await listen(server, address, port)
            log.info(
                "serving %s on %s:%d, %d Services", domain, bracketed(address), port, len(services.store)
            )


async def listen(server: Server, address: str, port: int) -> tuple[socket.socket, asyncio.Server]:
    """Open both sockets; with port 0, the same free one. On `::` they take IPv4 too. Raises UsageError."""
    for left in reversed(range(1 if port else TRIES)):
        try:
            return await _listen(server, address, port)
        except OSError as error:
            if not left:
                raise UsageError(f"cannot listen on {bracketed(address)}:{port}: {error.strerror}") from None
    raise AssertionError("the last try returns or raises")


async def _listen(server: Server, address: str, port: int) -> tuple[socket.socket, asyncio.Server]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((address, port))
        place = (address, bound.getsockname()[1])
        listening = socket.create_server(place, family=family, dualstack_ipv6=family == socket.AF_INET6)
        tcp = await asyncio.start_server(server.serve_tcp, sock=listening)
    except OSError:
        bound.close()
        raise
    server.serve_udp(bound)
    return bound, tcp
