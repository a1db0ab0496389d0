"""A Pod's life on its node, one task each: sandbox, containers, restarts, status, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

from testbed.client import ApiError, NotFound
from testbed.errors import TestbedError
from testbed.model.conditions import timestamp
from testbed.model.resources import PODS
from testbed.node.admission import refused_before
from testbed.node.cni import CniError
from testbed.node.ending import Ending, clean, dismiss, ending_with, grace_of
from testbed.node.health import Health
from testbed.node.images import ImageError, resolve
from testbed.node.launch import Node, begin, fill_volumes, furnish, record_end
from testbed.node.process import Status
from testbed.node.restarts import back_off, plan_restart, reason_of
from testbed.node.sandbox import Attached
from testbed.node.status import (
    Container,
    containers_of,
    initializing,
    is_over,
    pod_status,
    same_conditions,
)
from testbed.node.volumes import MountError, is_filled

log = logging.getLogger(__name__)
Object = dict[str, Any]

STATUS_PATIENCE = 0.3
"""Seconds that the first status waits for the containers to come up, which saves a write in most cases."""
RETRY, LONGEST_SETUP_WAIT = 1.0, 8.0
REFRESH = 20.0
"""Seconds between looks whether the contents of mounted Secrets and ConfigMaps have changed."""


class PodWorker:
    """`run()` it as a task; `update`, `gone` and `exited` tell it what happened outside.

    `refused`: reason and message when the node cannot take the Pod, which then never begins.
    """

    def __init__(
        self,
        node: Node,
        pod: Object,
        adopted: Iterable[Status] = (),
        refused: tuple[str, str] | None = None,
    ) -> None:
        self.node = node
        self.pod = furnish(node, pod)
        self.refused = refused
        self.uid = str(pod["metadata"]["uid"])
        self.containers = containers_of(self.pod)
        self._wake = asyncio.Event()
        self._gone = False
        self._attached: Attached | None = None
        self._published: Object = {}
        self._started = (pod.get("status") or {}).get("startTime") or timestamp()
        self._early: dict[str, Status] = {}
        self._health: dict[str, Health] = {}
        self._retry_at: float | None = None
        self._setup_failures = 0
        self._refresh_at = 0.0
        for status in sorted(adopted, key=lambda each: int(each.id.rpartition("/")[2])):
            self._adopt(status)

    def _adopt(self, status: Status) -> None:
        """A process that an earlier agent started."""
        _, _, name, attempt = status.id.split("/")
        for each in self.containers:
            if each.name == name:
                each.previous, each.process, each.attempt = each.process, status, int(attempt)
                with contextlib.suppress(ImageError):
                    each.program = self._resolve(each)

    # --- what happens outside

    @property
    def holds_its_ports(self) -> bool:
        return not self.refused and not is_over(self.pod, self.containers)

    def update(self, pod: Object) -> None:
        if int(pod["metadata"]["resourceVersion"]) >= int(self.pod["metadata"]["resourceVersion"]):
            self.pod = furnish(self.node, pod)
            self._wake.set()

    def gone(self) -> None:
        """The Pod is no longer in the API: end it at once."""
        self._gone = True
        self._wake.set()

    def runs(self, status: Status) -> bool:
        """Whether the process is one of this Pod's containers."""
        mine = [each.process for each in self.containers if each.process]
        return any((each.id, each.pid) == (status.id, status.pid) for each in mine)

    def exited(self, status: Status) -> None:
        for each in self.containers:
            if each.process and each.process.id == status.id:
                each.process, each.ready, each.up = status, False, False
                self.node.consoles.close(status.id)
                record_end(self.node, self.pod, each)
                self._unwatch(each)
                self._wake.set()
                return
        self._early[status.id] = status

    # --- the loop

    async def run(self) -> None:
        if self.refused and not refused_before(self.pod):
            await self._tell(*self.refused)
        while not self._ending():
            self._wake.clear()
            await self._advance()
            await self._refresh()
            if not await self._publish():
                self._retry_at = _now() + RETRY
            await self._sleep()
        await self._end()

    def _ending(self) -> bool:
        return self._gone or bool(self.pod["metadata"].get("deletionTimestamp"))

    async def _sleep(self) -> None:
        due = [each.restart_at for each in self.containers if each.restart_at is not None]
        due += [self._retry_at] if self._retry_at is not None else []
        due += [self._refresh_at] if self._attached and is_filled(self.pod) else []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(due, default=None)):
                await self._wake.wait()

    async def _advance(self) -> None:
        """One step towards what the spec says."""
        if self.refused:
            return
        if self._retry_at is not None and _now() >= self._retry_at:
            self._retry_at = None
        if self._attached is None and self._retry_at is None:
            await self._set_up()
        if self._attached is None:
            return
        fresh = []
        for each in self._turn():
            if each.process is not None and not each.running and each.restart_at is None:
                await plan_restart(self.node, self.pod, each)
            due = each.restart_at is not None and _now() >= each.restart_at
            if not self._ending() and (due or (each.process is None and each.restart_at is None)):
                await self._start(each)
            if each.running and each.watched and each.name not in self._health:
                fresh.append(self._watch(each))
        if fresh:
            await asyncio.wait(fresh, timeout=STATUS_PATIENCE)
        if is_over(self.pod, self.containers):
            await dismiss(self.node.runtime, self.containers)

    async def _refresh(self) -> None:
        """Have the files of Secrets and ConfigMaps as those are now; what is gone stays as it was."""
        if self._attached is None or not is_filled(self.pod) or _now() < self._refresh_at:
            return
        self._refresh_at = _now() + REFRESH
        with contextlib.suppress(MountError):
            await fill_volumes(self.node, self.pod)

    def _turn(self) -> list[Container]:
        """The containers whose turn it is: the first that has to come before others, or all of them.

        Sidecars that are up stay in the care of the agent all the while.
        """
        if is_over(self.pod, self.containers):
            return []
        first = initializing(self.containers)
        if first is None:
            return [each for each in self.containers if not each.initial or each.sidecar]
        return [each for each in self.containers if each is first or (each.sidecar and each.process)]

    async def _set_up(self) -> None:
        try:
            if self.node.sandboxes.attached(self.uid) is None:
                await fill_volumes(self.node, self.pod)
                self._refresh_at = _now() + REFRESH
            self._attached = await self.node.sandboxes.create(self.pod)
        except MountError as error:
            await self._set_up_later("FailedMount", str(error))
        except (CniError, OSError) as error:
            await self._set_up_later("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")

    async def _set_up_later(self, reason: str, message: str) -> None:
        self._setup_failures += 1
        self._retry_at = _now() + min(RETRY * 2**self._setup_failures, LONGEST_SETUP_WAIT)
        await self.node.events.warn(self.pod, reason, message)

    def _resolve(self, each: Container) -> Any:
        return resolve(each.spec, self.node.sandboxes.directory(self.uid), self.node.images)

    async def _start(self, each: Container) -> None:
        assert self._attached
        restart = each.process is not None
        attempt = each.attempt + 1 if restart else each.attempt
        try:
            each.program = self._resolve(each)
            status = await begin(self.node, self.pod, each, self._attached, attempt)
        except ApiError as error:
            back_off(each, "ContainerCreating", 1, str(error))
            return
        except (TestbedError, OSError, ValueError) as error:
            back_off(each, reason_of(error), 1, str(error))
            await self.node.events.warn(self.pod, "Failed", f"Error: {error}")
            return
        if restart and each.process:
            if not each.program.unit:
                with contextlib.suppress(TestbedError):
                    await self.node.runtime.remove(each.process.id)
            each.previous = each.process
        each.process, each.attempt, each.restart_at = self._early.pop(status.id, status), attempt, None
        self._say("started %s, pid %d: %s", each.name, status.pid, " ".join(each.program.argv))
        self.node.events.note(self.pod, "Started", f"Started container {each.name}")
        if each.program.notice:
            await self.node.events.normal(self.pod, "StandIn", each.program.notice)

    def _watch(self, each: Container) -> asyncio.Task[None]:
        """Follow the container's health; the task ends when it is up."""
        assert self._attached

        async def end(seconds: float | None) -> None:
            grace = grace_of(self.pod) if seconds is None else seconds
            await self._ending_of().halt(each, grace)

        health = Health(each, self._attached, self.node.runtime, self._tell, end, self._wake.set)
        self._health[each.name] = health
        return health.first

    def _unwatch(self, each: Container) -> None:
        health = self._health.pop(each.name, None)
        if health:
            health.cancel()

    # --- status

    async def _publish(self) -> bool:
        """Write the status if it changed. False when that must be tried again."""
        ips = self._attached.ips if self._attached else ()
        status = pod_status(self.pod, self.containers, self.node.ips, ips, self._started)
        if self.refused:
            reason, message = self.refused
            status = {"phase": "Failed", "reason": reason, "message": message, "startTime": self._started}
        if self._ending() or (status == self._published and same_conditions(status, self.pod)):
            return True
        metadata = self.pod["metadata"]
        patch = {"metadata": {"uid": self.uid}, "status": status}
        try:
            written = await self.node.client.patch(
                PODS, metadata["name"], metadata["namespace"], patch, subresource="status"
            )
        except NotFound:
            self.gone()
            return True
        except ApiError as error:
            log.warning("status of %s/%s: %s", metadata["namespace"], metadata["name"], error)
            return False
        self._published = status
        self.update(written)
        return True

    def _say(self, text: str, *words: object) -> None:
        metadata = self.pod["metadata"]
        log.info(f"%s/%s: {text}", metadata["namespace"], metadata["name"], *words)

    # --- the end

    async def _end(self) -> None:
        stopped = ending_with(self.pod, self.containers)
        for each in self.containers:
            self._unwatch(each)
            if each.running and each in stopped:
                self.node.events.note(self.pod, "Killing", f"Stopping container {each.name}")
        await self._ending_of().stop(stopped, 0 if self._gone else grace_of(self.pod))
        while not await clean(self.node, self.pod, not self._gone):
            await asyncio.sleep(RETRY)
        self._say("ended")

    def _ending_of(self) -> Ending:
        ip = self._attached.ip if self._attached else ""
        return Ending(self.node.runtime, ip, self._wake, lambda: self._gone, self._tell)

    async def _tell(self, reason: str, message: str) -> None:
        await self.node.events.warn(self.pod, reason, message)


def _now() -> float:
    return asyncio.get_running_loop().time()
