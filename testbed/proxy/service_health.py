"""The health checks that load balancers make on each node, to find those with an endpoint of a Service.

A Service of type LoadBalancer with externalTrafficPolicy Local has a healthCheckNodePort. Each node answers
there with 200 when it has a ready endpoint of the Service, and 503 when not: with the words of kube-proxy.
Source: kubernetes pkg/proxy/healthcheck/service_health.go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalEndpoints:
    """How many ready endpoints of a Service this node has."""

    namespace: str
    service: str
    count: int


@dataclass
class _Listener:
    """One health check port, open on some addresses."""

    addresses: tuple[str, ...]
    runner: web.AppRunner
    told: LocalEndpoints


@dataclass
class ServiceHealth:
    """The health check ports of all Services. `proxy_healthy` tells whether the agent itself is well."""

    proxy_healthy: Callable[[], bool]
    _listeners: dict[int, _Listener] = field(default_factory=dict)
    _refused: dict[int, LocalEndpoints] = field(default_factory=dict)

    async def update(self, wanted: Mapping[int, LocalEndpoints], addresses: Sequence[str]) -> None:
        """Answer on these ports, of these addresses, and on no other.

        A port that is taken is logged once, and tried again at each call: Services matter more.
        """
        for port, listener in list(self._listeners.items()):
            if port not in wanted or listener.addresses != tuple(addresses):
                await listener.runner.cleanup()
                del self._listeners[port]
        self._refused = {port: who for port, who in self._refused.items() if port in wanted}
        for port, told in wanted.items():
            if port in self._listeners:
                self._listeners[port].told = told
            else:
                await self._open(port, told, tuple(addresses))

    async def _open(self, port: int, told: LocalEndpoints, addresses: tuple[str, ...]) -> None:
        app = web.Application()
        runner = web.AppRunner(app, access_log=None)
        listener = _Listener(addresses, runner, told)

        async def answer(_: web.Request) -> web.Response:
            return response(listener.told, self.proxy_healthy())

        app.router.add_route("*", "/{path:.*}", answer)
        await runner.setup()
        name = f"{told.namespace}/{told.service}"
        try:
            for address in addresses:
                await web.TCPSite(runner, address, port).start()
        except OSError as error:
            await runner.cleanup()
            if port not in self._refused:
                reason = error.strerror or error
                log.error("Failed to start healthcheck of %s on port %d: %s", name, port, reason)
            self._refused[port] = told
            return
        self._refused.pop(port, None)
        self._listeners[port] = listener
        log.info('Opened healthcheck "%s" on port %d', name, port)

    async def close(self) -> None:
        await self.update({}, ())


def response(told: LocalEndpoints, healthy: bool) -> web.Response:
    body = {
        "service": {"namespace": told.namespace, "name": told.service},
        "localEndpoints": told.count,
        "serviceProxyHealthy": healthy,
    }
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(told.count),
    }
    return web.json_response(body, status=200 if told.count and healthy else 503, headers=headers)
