"""One run of a container: when it is up, whether it is alive, whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from testbed.errors import TestbedError
from testbed.node import probes
from testbed.node.runtime import Process, Runtime
from testbed.node.sandbox import Attached
from testbed.node.status import Container

Object = dict[str, Any]


class Health:
    """Keeps `up` and `ready` of a running container; one that is not alive is killed, and started again.

    `tell(message)` records what a probe found wrong; `changed()` is called when the status should be written.
    `first` is the task that ends when the container is up.
    """

    def __init__(
        self,
        container: Container,
        attached: Attached,
        runtime: Runtime,
        tell: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        assert container.process
        self._container = container
        self._process = container.process
        self._attached = attached
        self._runtime = runtime
        self._tell = tell
        self._changed = changed
        self.first = asyncio.create_task(self._come_up())
        self._tasks = [self.first]

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _come_up(self) -> None:
        each = self._container
        if each.program and each.program.listens:
            await probes.listening(self._process.pid, each.program.listens)
        if each.spec.get("startupProbe"):
            async for good, why in self._results("startupProbe"):
                if good:
                    break
                await self._kill("Startup", why)
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
                await self._kill("Liveness", why)

    async def _ready(self) -> None:
        async for good, why in self._results("readinessProbe"):
            if good != self._container.ready:
                self._container.ready = good
                self._changed()
            if not good:
                await self._tell(f"Readiness probe failed: {why}")

    async def _kill(self, kind: str, why: str) -> None:
        await self._tell(f"{kind} probe failed: {why}; the container is restarted")
        with contextlib.suppress(TestbedError):
            await self._runtime.signal(self._process.id, signal.SIGKILL)

    def _results(self, name: str) -> AsyncIterator[tuple[bool, str]]:
        spec = self._container.spec
        return probes.results(spec[name], spec, self._attached.ip, self._run)

    async def _run(self, argv: Sequence[str], timeout: float) -> tuple[bool, str]:
        """A command in the container, for exec probes."""
        process = Process("", tuple(argv), enter=self._process.pid)
        try:
            done = await self._runtime.run(process, timeout=timeout)
        except (TestbedError, TimeoutError) as error:
            return False, str(error)
        return done.code == 0, (done.stdout + done.stderr).decode(errors="replace").strip()
