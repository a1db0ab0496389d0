"""The agent's HTTP server: /healthz, /livez, /metrics and /proxyMode, as kube-proxy's."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from testbed.proxy.metrics import Metrics, text

log = logging.getLogger(__name__)


class HealthServer:
    """Healthy: no change of any family has been waiting for its sync longer than two sync periods."""

    def __init__(self, metrics: Sequence[Metrics], mode: str, patience: float) -> None:
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
                web.get("/metrics", self._text(lambda: text(self._metrics))),
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
        return bool(self._metrics) and all(self._well(each, now) for each in self._metrics)

    def _well(self, metrics: Metrics, now: float) -> bool:
        waiting = metrics.last_queued.value > metrics.last_sync.value
        started = metrics.last_sync.value > 0
        return started and not (waiting and now - metrics.last_queued.value > self._patience)

    async def _healthz(self, _: web.Request) -> web.Response:
        now = time.time()
        last = min((each.last_sync.value for each in self._metrics), default=0.0)
        body = {"lastUpdated": _stamp(last), "currentTime": _stamp(now)}
        return web.json_response(body, status=200 if self.healthy(now) else 503)

    @staticmethod
    def _text(source: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=source())

        return answer


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
