"""The sync loop: gathers changes, renders and applies them in one worker thread, repairs now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from testbed.errors import TestbedError
from testbed.kernel.addresses import local_addresses, within
from testbed.model.families import UNSPECIFIED
from testbed.model.service import Snapshot
from testbed.proxy.conntrack import Reconciler
from testbed.proxy.metrics import Metrics
from testbed.proxy.modes.base import Mode
from testbed.proxy.options import ProxyOptions
from testbed.proxy.tracker import Tracker

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY = 1.0
"""Seconds until a failed sync is tried again."""
HEALTH_CHECK = 0.5
"""Seconds between two looks at what a mode runs in the background."""
REPAIR_SHARE = 20
"""A repair that takes t seconds is not done more often than every 20 t: 5 % of a core at most."""
OWN_DEVICE = "kube-ipvs0"
"""What it has are Service addresses, not the node's."""


class SyncLoop:
    """Drives one Mode. A change is applied at once, or `min_sync_period` after the sync before it.

    `worker` has one thread, which several loops may share.
    """

    def __init__(
        self,
        mode: Mode[Any],
        tracker: Tracker,
        options: ProxyOptions,
        metrics: Metrics,
        worker: ThreadPoolExecutor,
    ) -> None:
        self.mode = mode
        self.options = options
        self.metrics = metrics
        self._tracker = tracker
        self._conntrack = Reconciler(options.family)
        self._addresses: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._worker = worker
        self._ended = 0.0
        self._repair_at = 0.0
        self._triggers: list[float] = []
        self.after_sync: Callable[[], Awaitable[None]] = nothing
        """Called after each sync that went well."""

    @property
    def node_port_addresses(self) -> tuple[str, ...]:
        """Where this node's own ports answer: the addresses of --nodeport-addresses, or everywhere."""
        everywhere = UNSPECIFIED[self.options.family]
        return self._addresses if self.options.nodeport_addresses else (everywhere,)

    def wake(self) -> None:
        """Something changed."""
        self.metrics.last_queued.value = time.time()
        self.metrics.oldest_pending = self.metrics.oldest_pending or time.time()
        pending = self._tracker.pending
        self.metrics.services_pending.value = pending.services
        self.metrics.endpoints_pending.value = pending.slices
        self._wake.set()

    async def in_worker(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function` in the worker thread, where pyroute2 may run its own event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)

    async def run(self) -> None:
        """Sync for ever: whenever woken, when a repair is due, and when the mode is not well."""
        while True:
            wait = min(HEALTH_CHECK, max(0.0, self._repair_at - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)
            if not self._wake.is_set() and time.monotonic() < self._repair_at and self.mode.healthy():
                continue
            await asyncio.sleep(max(0.0, self._ended + self.options.min_sync_period - time.monotonic()))
            await self.sync()

    async def sync(self) -> bool:
        """One sync now. Returns whether it went well; if not, the next one is a repair, in RETRY seconds."""
        self._wake.clear()
        snapshot = self._tracker.snapshot()
        triggers, objects = self._tracker.take_changes()
        self.metrics.services.value += objects.services
        self.metrics.endpoints.value += objects.slices
        started = time.monotonic()
        repair = started >= self._repair_at
        try:
            changes = await self.in_worker(self._apply, snapshot, repair)
        except TestbedError as error:
            log.error("IPv%d sync failed, trying again in %.0f s: %s", self.options.family, RETRY, error)
            self.metrics.failures.value += 1
            self.metrics.partial_failures.value += not repair
            self._triggers += triggers
            self._ended = time.monotonic()
            self._repair_at = self._ended + RETRY
            return False
        self._ended = time.monotonic()
        took = self._ended - started
        if repair:
            self._repair_at = self._ended + max(self.options.sync_period, REPAIR_SHARE * took)
        self._count(took, changes, repair, self._triggers + triggers)
        self._triggers = []
        await self.after_sync()
        log.log(
            logging.INFO if changes else logging.DEBUG,
            "SyncProxyRules complete: IPv%d, %.1f ms, %d services, %d changes%s",
            self.options.family,
            took * 1000,
            len(snapshot.services),
            changes,
            ", checked against the kernel" if repair else "",
        )
        return True

    def _apply(self, snapshot: Snapshot, repair: bool) -> int:
        if repair:
            self._addresses = within(
                local_addresses(self.options.family, without=OWN_DEVICE), self.options.nodeport_addresses
            )
        snapshot = replace(
            snapshot,
            node_port_ips=self._addresses,
            node_ports_anywhere=not self.options.nodeport_addresses,
        )
        changes = self.mode.sync(self.mode.render(snapshot), repair=repair)
        if reconciled := self._conntrack.after_sync(snapshot, repair=repair):
            self.metrics.conntrack.observe(reconciled.seconds)
            self.metrics.forgotten.value += reconciled.forgotten
        self.metrics.no_local_endpoints.values = {
            policy: float(count) for policy, count in without_local_endpoints(snapshot).items()
        }
        self.metrics.rules.values, self.metrics.rules_last.values = self.mode.rule_counts()
        return changes

    def _count(self, took: float, changes: int, repair: bool, triggers: list[float]) -> None:
        now = time.time()
        self.metrics.sync.observe(took)
        (self.metrics.full if repair else self.metrics.partial).observe(took)
        self.metrics.last_sync.value = now
        self.metrics.oldest_pending = self.metrics.last_queued.value if self._wake.is_set() else 0.0
        self.metrics.changes.value += changes
        self.metrics.services_pending.value = self._tracker.pending.services
        self.metrics.endpoints_pending.value = self._tracker.pending.slices
        for moment in triggers:
            self.metrics.programming.observe(max(0.0, now - moment))


def without_local_endpoints(snapshot: Snapshot) -> dict[str, int]:
    """How many Service ports have endpoints, but none that their policy Local allows here; by policy."""
    found = {"internal": 0, "external": 0}
    for service in snapshot.services.values():
        if service.cluster and not service.local:
            found["internal"] += service.internal_local
            found["external"] += service.external_local
    return found


async def nothing() -> None:
    """Nobody waits for syncs."""
