"""The agent's HTTP server: /healthz, /livez, /metrics and /proxyMode, as kube-proxy's."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from testbed.proxy.metrics import Metrics

log = logging.getLogger(__name__)


class HealthServer:
    """Healthy: no change has been waiting for its sync longer than two sync periods."""

    def __init__(self, metrics: Metrics, mode: str, patience: float) -> None:
        self._metrics = metrics
        self._mode = mode
        self._patience = patience
        self._runner: web.AppRunner | None = None

    async def start(self, bind: str) -> None:
        """Listen on `ADDRESS:PORT`. A port that is taken is logged: Services matter more than their probe."""
        address, _, port = bind.rpartition(":")
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/livez", self._healthz),
                web.get("/metrics", self._text(self._metrics.text)),
                web.get("/proxyMode", self._text(lambda: self._mode)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address.strip("[]"), int(port)).start()
        except OSError as error:
            log.error("Failed to start healthz on %s: %s", bind, error.strerror or error)

    async def close(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    def healthy(self, now: float) -> bool:
        waiting = self._metrics.last_queued.value > self._metrics.last_sync.value
        started = self._metrics.last_sync.value > 0
        return started and not (waiting and now - self._metrics.last_queued.value > self._patience)

    async def _healthz(self, _: web.Request) -> web.Response:
        now = time.time()
        body = {"lastUpdated": _stamp(self._metrics.last_sync.value), "currentTime": _stamp(now)}
        return web.json_response(body, status=200 if self.healthy(now) else 503)

    @staticmethod
    def _text(source: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=source())

        return answer


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
