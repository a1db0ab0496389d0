"""The agent as a whole: watches the API server, keeps one mode in step, and answers for its health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass

from testbed.client import Client, Informer
from testbed.errors import TestbedError
from testbed.model.resources import ENDPOINT_SLICES, NODES, SERVICES
from testbed.proxy import faults
from testbed.proxy.health import HealthServer
from testbed.proxy.loop import SyncLoop
from testbed.proxy.metrics import Metrics
from testbed.proxy.modes import NAMES, mode_class
from testbed.proxy.options import ProxyOptions
from testbed.proxy.service_health import ServiceHealth
from testbed.proxy.tracker import Tracker

log = logging.getLogger(__name__)

OTHER_PROXIES = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"


@dataclass(frozen=True)
class Agent:
    """What one agent runs with. `healthz` is ADDRESS:PORT, or "" for none."""

    kubeconfig: str
    mode: str
    options: ProxyOptions
    healthz: str = "0.0.0.0:10256"

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Rules stay in the kernel: traffic outlives its agent."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        tracker, metrics = Tracker(self.options.node), Metrics()
        options = self.options.of_family(4)
        mode = faults.chosen(mode_class(self.mode)(options))
        syncing = SyncLoop(mode, tracker, options, metrics)
        health = HealthServer(metrics, self.mode, 2 * self.options.sync_period)
        checks = ServiceHealth(lambda: health.healthy(time.time()))

        async def update_checks() -> None:
            await checks.update(tracker.health_checks(), syncing.node_port_addresses)

        syncing.after_sync = update_checks
        try:
            about = await syncing.in_worker(mode.start)
            log.info("Using %s Proxier. %s", mode.title, about)
            if self.healthz:
                await health.start(self.healthz)
            async with Client.from_kubeconfig(self.kubeconfig) as client:
                await self._serve(client, tracker, syncing, ended)
        finally:
            await syncing.in_worker(mode.stop)
            syncing.close()
            await checks.close()
            await health.close()

    async def _serve(self, client: Client, tracker: Tracker, syncing: SyncLoop, ended: asyncio.Event) -> None:
        services = Informer(client, SERVICES, label_selector=OTHER_PROXIES)
        slices = Informer(client, ENDPOINT_SLICES, label_selector=OTHER_PROXIES)
        node = Informer(client, NODES, field_selector=f"metadata.name={self.options.node}")
        for informer, callback in (
            (services, tracker.service),
            (slices, tracker.endpoint_slice),
            (node, tracker.own_node),
        ):
            informer.subscribe(callback)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(informer.run()) for informer in (services, slices, node)]
            running.append(tasks.create_task(self._program(services, slices, tracker, syncing)))
            await ended.wait()
            log.info("Ending; rules stay as they are")
            for task in running:
                task.cancel()

    async def _program(
        self, services: Informer, slices: Informer, tracker: Tracker, syncing: SyncLoop
    ) -> None:
        """The first sync waits for the whole picture, so that a restart takes no Service away."""
        await services.synced.wait()
        await slices.synced.wait()
        tracker.on_change = syncing.wake
        while not await syncing.sync():
            await asyncio.sleep(1)
        await syncing.in_worker(clean_up_others, self.mode)
        await syncing.run()


def clean_up_others(mode: str) -> None:
    """Remove what other modes left behind besides rules; those went with the first sync of this one."""
    for name in NAMES:
        if name != mode:
            with contextlib.suppress(TestbedError):
                mode_class(name).cleanup()
