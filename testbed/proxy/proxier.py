"""The proxier of one IP family: its mode, what is tracked for it, its syncs and health checks.

An agent has one for each family that its node has, as kube-proxy's meta proxier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.client import Informer
from testbed.errors import TestbedError
from testbed.kernel.xtables import Xtables
from testbed.proxy import faults
from testbed.proxy.loop import SyncLoop
from testbed.proxy.metrics import Metrics
from testbed.proxy.modes import mode_class
from testbed.proxy.options import ProxyOptions
from testbed.proxy.service_health import ServiceHealth
from testbed.proxy.tracker import Tracker

IF_INET6 = Path("/proc/thread-self/net/if_inet6")
RETRY = 1.0
"""Seconds until a first sync that failed is tried again."""


def lacks(family: int) -> str:
    """Why this node cannot have rules of an IP family, "" if it can."""
    if family == 4:
        return ""
    if not IF_INET6.exists():
        return "its kernel has no IPv6"
    try:
        Xtables(family).read("nat")
    except TestbedError as error:
        return str(error)
    return ""


class Proxier:
    """`options` are those of one family. Syncs run in `worker`; `healthy` tells whether the agent is well."""

    def __init__(
        self, mode: str, options: ProxyOptions, worker: ThreadPoolExecutor, healthy: Callable[[], bool]
    ) -> None:
        self.tracker, self.metrics = Tracker(options.node, options.family), Metrics(options.family, mode)
        self.mode = faults.chosen(mode, mode_class(mode)(options))
        self.loop = SyncLoop(self.mode, self.tracker, options, self.metrics, worker)
        self.loop.after_sync = self._update_checks
        self._checks = ServiceHealth(healthy)

    async def start(self) -> str:
        """Prepare the kernel. Returns what to log of it. Raises TestbedError."""
        return await self.loop.in_worker(self.mode.start)

    def follow(self, services: Informer, slices: Informer, node: Informer) -> None:
        services.subscribe(self.tracker.service)
        slices.subscribe(self.tracker.endpoint_slice)
        node.subscribe(self.tracker.own_node)

    async def begin(self) -> None:
        """The first sync, of the whole picture, tried until it goes well."""
        self.tracker.on_change = self.loop.wake
        while not await self.loop.sync():
            await asyncio.sleep(RETRY)

    async def stop(self) -> None:
        """Rules stay in the kernel: traffic outlives its agent."""
        await self.loop.in_worker(self.mode.stop)
        await self._checks.close()

    async def _update_checks(self) -> None:
        await self._checks.update(self.tracker.health_checks(), self.loop.node_port_addresses)
