"""One run of a container: when it is up, whether it is alive, whether it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from testbed.node import hooks, probes
from testbed.node.runtime import Runtime
from testbed.node.sandbox import Attached
from testbed.node.status import Container

Object = dict[str, Any]

HOOK_PATIENCE = 3600.0
"""Seconds: a postStart hook may take as long as it likes, if not for ever."""


class Health:
    """Keeps `up` and `ready` of a running container; one that is not alive is ended, and started again.

    `tell(reason, message)` records what a probe or hook found wrong; `end(seconds)` has the container ended,
    within those or the Pod's own period of grace; `changed()` is called when the status should be written.
    `first` is the task that ends when the container is up.
    """

    def __init__(
        self,
        container: Container,
        attached: Attached,
        runtime: Runtime,
        tell: Callable[[str, str], Awaitable[None]],
        end: Callable[[float | None], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        assert container.process
        self._container = container
        self._process = container.process
        self._attached = attached
        self._runtime = runtime
        self._tell = tell
        self._end = end
        self._changed = changed
        self.first = asyncio.create_task(self._come_up())
        self._tasks = [self.first]

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _come_up(self) -> None:
        each = self._container
        wrong = await hooks.run("postStart", each, self._attached.ip, self._runtime, HOOK_PATIENCE)
        if wrong:
            await self._tell("FailedPostStartHook", wrong)
            await self._end(None)
        if each.program and each.program.listens:
            await probes.listening(self._process.pid, self._attached.ips, each.program.listens)
        if each.spec.get("startupProbe"):
            async for good, why in self._results("startupProbe"):
                if good:
                    break
                await self._kill("startupProbe", why)
        each.up = True
        for name, watch in (("livenessProbe", self._alive), ("readinessProbe", self._ready)):
            if each.spec.get(name):
                self._tasks.append(asyncio.create_task(watch()))
        if not each.spec.get("readinessProbe"):
            each.ready = True
        self._changed()

    async def _alive(self) -> None:
        async for good, why in self._results("livenessProbe"):
            if not good:
                await self._kill("livenessProbe", why)

    async def _ready(self) -> None:
        async for good, why in self._results("readinessProbe"):
            if good != self._container.ready:
                self._container.ready = good
                self._changed()
            if not good:
                await self._tell("Unhealthy", f"Readiness probe failed: {why}")

    async def _kill(self, probe: str, why: str) -> None:
        kind = probe.removesuffix("Probe").capitalize()
        await self._tell("Unhealthy", f"{kind} probe failed: {why}")
        text = f"Container {self._container.name} failed {kind.lower()} probe, will be restarted"
        await self._tell("Killing", text)
        await self._end(self._container.spec[probe].get("terminationGracePeriodSeconds"))

    def _results(self, name: str) -> AsyncIterator[tuple[bool, str]]:
        spec = self._container.spec
        inside = partial(self._runtime.run_in, self._process.pid)
        return probes.results(spec[name], spec, self._attached.ip, inside)
