"""The agent as a whole: watches the API server, keeps one mode in step, and answers for its health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from testbed.client import Client, Informer
from testbed.errors import TestbedError
from testbed.model.families import VERSIONS
from testbed.model.resources import ENDPOINT_SLICES, NODES, SERVICES
from testbed.proxy.health import HealthServer
from testbed.proxy.metrics import Metrics
from testbed.proxy.modes import NAMES, mode_class
from testbed.proxy.modes.chains import remove_rules_of_the_other_variant
from testbed.proxy.options import ProxyOptions
from testbed.proxy.proxier import Proxier, lacks

log = logging.getLogger(__name__)

OTHER_PROXIES = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"


@dataclass(frozen=True)
class Agent:
    """What one agent runs with. `healthz` and `metrics` are ADDRESS:PORT, or "" for none."""

    kubeconfig: str
    mode: str
    options: ProxyOptions
    healthz: str = "0.0.0.0:10256"
    metrics: str = "127.0.0.1:10249"

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Rules stay in the kernel: traffic outlives its agent."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        metrics: list[Metrics] = []
        health = HealthServer(metrics, self.mode, 2 * self.options.sync_period)
        proxiers: list[Proxier] = []
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync") as worker:
            try:
                for family in VERSIONS:
                    if told := await loop.run_in_executor(worker, lacks, family):
                        log.warning("No IPv%d proxier: %s", family, told)
                        continue
                    options = self.options.of_family(family)
                    each = Proxier(self.mode, options, worker, lambda: health.healthy(time.time()))
                    proxiers.append(each)
                    about = await each.start()
                    metrics.append(each.metrics)
                    log.info("Using %s Proxier. IPv%d: %s", each.mode.title, family, about)
                await health.start(self.healthz, self.metrics)
                async with Client.from_kubeconfig(self.kubeconfig) as client:
                    await self._serve(client, proxiers, health, ended)
            finally:
                for each in proxiers:
                    await each.stop()
                await health.close()

    async def _serve(
        self, client: Client, proxiers: Sequence[Proxier], health: HealthServer, ended: asyncio.Event
    ) -> None:
        services = Informer(client, SERVICES, label_selector=OTHER_PROXIES)
        slices = Informer(client, ENDPOINT_SLICES, label_selector=OTHER_PROXIES)
        node = Informer(client, NODES, field_selector=f"metadata.name={self.options.node}")
        node.subscribe(health.own_node)
        for each in proxiers:
            each.follow(services, slices, node)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(informer.run()) for informer in (services, slices, node)]
            running.append(tasks.create_task(self._program(services, slices, proxiers, health)))
            await ended.wait()
            log.info("Ending; rules stay as they are")
            for task in running:
                task.cancel()

    async def _program(
        self, services: Informer, slices: Informer, proxiers: Sequence[Proxier], health: HealthServer
    ) -> None:
        """The first sync waits for the whole picture, so that a restart takes no Service away."""
        await services.synced.wait()
        await slices.synced.wait()
        for each in proxiers:
            await each.begin()
        await proxiers[0].loop.in_worker(clean_up_others, self.mode)
        health.alone = True
        async with asyncio.TaskGroup() as tasks:
            for each in proxiers:
                tasks.create_task(each.loop.run())


def clean_up_others(mode: str) -> None:
    """Remove what other modes left behind besides rules, and rules in the tables of the other iptables; those
    in the same tables went with the first sync of this one."""
    for family in VERSIONS:
        remove_rules_of_the_other_variant(family)
    for name in NAMES:
        if name != mode:
            with contextlib.suppress(TestbedError):
                mode_class(name).cleanup()
