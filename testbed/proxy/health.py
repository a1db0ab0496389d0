"""The agent's HTTP server: /healthz, /livez, /metrics and /proxyMode, as kube-proxy's."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from testbed.proxy.metrics import Gauges, Metrics, text

log = logging.getLogger(__name__)

Object = dict[str, Any]
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""The cluster autoscaler's taint of a node that it is about to delete."""


class HealthServer:
    """Healthy: the node's rules are this mode's alone, and no change of any family has been waiting for its
    sync longer than two sync periods.

    /healthz, which load balancers ask, also says no when the node is about to go; /livez does not (KEP-3836).
    """

    def __init__(self, metrics: Sequence[Metrics], mode: str, patience: float) -> None:
        self._metrics = metrics
        self._mode = mode
        self._patience = patience
        self._runner: web.AppRunner | None = None
        self._answers = {probe: _answers(probe) for probe in ("healthz", "livez")}
        self.node_eligible = True
        self.alone = False
        """What other modes had left on the node is gone: until then it could be theirs what answers."""

    async def start(self, *binds: str) -> None:
        """Listen on each `ADDRESS:PORT`. One that is taken is logged: Services matter more than probes."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/livez", self._livez),
                web.get("/metrics", self._text(self._told)),
                web.get("/proxyMode", self._text(lambda: self._mode)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        for bind in filter(None, binds):
            address, _, port = bind.rpartition(":")
            try:
                await web.TCPSite(self._runner, address.strip("[]"), int(port)).start()
            except OSError as error:
                log.error("Failed to start healthz on %s: %s", bind, error.strerror or error)

    def own_node(self, _: Object | None, node: Object | None) -> None:
        """The Node has changed."""
        self.node_eligible = node is not None and eligible(node)

    async def close(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    def healthy(self, now: float) -> bool:
        return self.alone and bool(self._metrics) and all(self._well(each, now) for each in self._metrics)

    def _well(self, metrics: Metrics, now: float) -> bool:
        waits = metrics.oldest_pending
        return metrics.last_sync.value > 0 and not (waits and now - waits > self._patience)

    async def _healthz(self, _: web.Request) -> web.Response:
        now = time.time()
        good = self.healthy(now) and self.node_eligible
        return self._answer("healthz", good, now, {"nodeEligible": self.node_eligible})

    async def _livez(self, _: web.Request) -> web.Response:
        now = time.time()
        return self._answer("livez", self.healthy(now), now, {})

    def _answer(self, probe: str, good: bool, now: float, more: dict[str, bool]) -> web.Response:
        """A proxy that is well was updated just now, as upstream has it: nothing waits."""
        last = now if good else max((each.last_sync.value for each in self._metrics), default=0.0)
        status = 200 if good else 503
        self._answers[probe].values[str(status)] = self._answers[probe].values.get(str(status), 0) + 1
        body = {"lastUpdated": _stamp(last), "currentTime": _stamp(now), **more}
        return web.json_response(body, status=status, headers={"X-Content-Type-Options": "nosniff"})

    def _told(self) -> str:
        lines = [text(self._metrics)]
        for one in self._answers.values():
            lines += [f"# HELP {one.name} {one.help}", f"# TYPE {one.name} {one.kind}", *one.lines(), ""]
        return "\n".join(lines)

    @staticmethod
    def _text(source: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=source())

        return answer


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _answers(probe: str) -> Gauges:
    return Gauges(f"kubeproxy_proxy_{probe}_total", f"Answers on /{probe}", "code", kind="counter")


def eligible(node: Object) -> bool:
    """Whether load balancers should still send to a Node: it is not about to be deleted."""
    taints = (node.get("spec") or {}).get("taints") or ()
    deleted = node["metadata"].get("deletionTimestamp")
    return not deleted and all(taint.get("key") != TO_BE_DELETED for taint in taints)
