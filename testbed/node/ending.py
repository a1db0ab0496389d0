"""The end of a Pod: its containers stopped, its sandbox taken down, the API told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.client import ApiError, NotFound
from testbed.errors import TestbedError
from testbed.model.resources import PODS
from testbed.node import hooks
from testbed.node.cni import CniError
from testbed.node.launch import Node
from testbed.node.logs import log_directory
from testbed.node.runtime import Runtime
from testbed.node.static import is_mirror
from testbed.node.status import Container

log = logging.getLogger(__name__)
Object = dict[str, Any]

DEFAULT_GRACE = 30
LEAST_AFTER_HOOK = 2.0
"""Seconds that a container has to end by itself however long its preStop hook took, as the kubelet's."""
KILLED_WITHIN = 1.0
"""Seconds after which a killed process is not waited for: the kernel cannot end it now."""


def grace_of(pod: Object) -> int:
    """Seconds that the containers have to end by themselves."""
    metadata, spec = pod["metadata"], pod["spec"]
    grace = metadata.get("deletionGracePeriodSeconds")
    return int(grace if grace is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))


def ending_with(pod: Object, containers: Sequence[Container]) -> list[Container]:
    """Those that end with the Pod; what a mirror stands for runs on."""
    return [each for each in containers if not (is_mirror(pod) and each.program and each.program.unit)]


@dataclass(frozen=True)
class Ending:
    """How containers of a Pod are ended.

    `changed` is set whenever one of them has ended; `hurry` says whether to wait no longer; `tell(reason,
    message)` records what went wrong.
    """

    runtime: Runtime
    ip: str
    changed: asyncio.Event
    hurry: Callable[[], bool]
    tell: Callable[[str, str], Awaitable[None]]

    async def stop(self, containers: Sequence[Container], grace: float) -> None:
        """End them all: those that serve together, then the sidecars, the last one first (KEP-753)."""
        deadline = _now() + max(grace, 1)
        await asyncio.gather(*(self.halt(each, grace, deadline) for each in containers if not each.sidecar))
        for each in reversed(containers):
            if each.sidecar:
                await self.halt(each, grace, deadline)
        for each in containers:
            if each.process and not (each.program and each.program.unit):  # init starts a unit again
                with contextlib.suppress(TestbedError):
                    await self.runtime.remove(each.process.id)

    async def halt(self, each: Container, grace: float, deadline: float | None = None) -> None:
        """Run its preStop hook, ask it to end, wait until the deadline, then have the kernel end it."""
        deadline = _now() + max(grace, 1) if deadline is None else deadline
        if grace and each.running:
            wrong = await hooks.run("preStop", each, self.ip, self.runtime, deadline - _now())
            if wrong:
                await self.tell("FailedPreStopHook", wrong)
            await self._signal(each, signal.Signals[each.program.stop_signal if each.program else "SIGTERM"])
            await self._wait(each, max(deadline, _now() + LEAST_AFTER_HOOK))
        if each.running:
            await self._signal(each, signal.SIGKILL)
            await self._wait(each, _now() + KILLED_WITHIN)

    async def _signal(self, each: Container, number: int) -> None:
        if each.running and each.process:
            with contextlib.suppress(TestbedError):
                await self.runtime.signal(each.process.id, number)

    async def _wait(self, each: Container, deadline: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while each.running and not self.hurry():
                    self.changed.clear()
                    await self.changed.wait()


async def dismiss(runtime: Runtime, containers: Sequence[Container]) -> None:
    """Ask the sidecars of a Pod that is over to end."""
    for each in containers:
        if each.sidecar and each.running and each.process:
            with contextlib.suppress(TestbedError):
                await runtime.signal(each.process.id, signal.SIGTERM)


async def clean(node: Node, pod: Object, known: bool) -> bool:
    """Take the sandbox down and, if the API knows the Pod, let it forget it. False: try again."""
    metadata = pod["metadata"]
    try:
        node.tokens.forget(metadata["uid"])
        await node.sandboxes.remove(metadata["uid"])
        shutil.rmtree(log_directory(pod), ignore_errors=True)
        if known:
            await node.client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period=0, uid=metadata["uid"]
            )
    except NotFound:
        return True
    except CniError as error:
        await node.events.warn(pod, "FailedKillPod", str(error))
        return False
    except (ApiError, OSError) as error:
        log.warning("end of %s/%s: %s", metadata["namespace"], metadata["name"], error)
        return isinstance(error, ApiError) and error.code == 409  # the name is another Pod's by now
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()
