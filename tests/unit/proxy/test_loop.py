"""The sync loop: at once, then gathered; repairs; failures tried again; and what it counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from testbed.errors import TestbedError
from testbed.model.service import Snapshot
from testbed.proxy import loop as loops
from testbed.proxy.loop import SyncLoop
from testbed.proxy.metrics import Metrics, text
from testbed.proxy.modes.base import Mode
from testbed.proxy.options import ProxyOptions
from testbed.proxy.tracker import Tracker

SERVICE = {
    "metadata": {"namespace": "default", "name": "web"},
    "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]},
}


def numbered(number: int) -> dict[str, Any]:
    spec = {"clusterIP": f"10.96.1.{number}", "ports": [{"port": 80}]}
    return {"metadata": {"namespace": "default", "name": f"web{number}"}, "spec": spec}


class Recorder(Mode[int]):
    """Counts Services; fails as often as told."""

    title = "recorder"
    well = True

    def healthy(self) -> bool:
        return self.well

    def __init__(self, options: ProxyOptions, failures: int = 0) -> None:
        super().__init__(options)
        self.failures = failures
        self.syncs: list[tuple[int, bool]] = []

    def render(self, snapshot: Snapshot) -> int:
        return len(snapshot.services)

    def sync(self, state: int, *, repair: bool = False) -> int:
        if self.failures:
            self.failures -= 1
            raise TestbedError("the kernel says no")
        self.syncs.append((state, repair))
        self.well = True
        return state


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "local_addresses", lambda *_, **__: ("172.30.0.11",))


Body = Callable[[SyncLoop, Tracker], Coroutine[None, None, None]]


def drive(mode: Recorder, body: Body) -> Metrics:
    """Run the loop around `body`."""

    async def run() -> Metrics:
        tracker, metrics = Tracker("node01"), Metrics()
        worker = ThreadPoolExecutor(1)
        syncing = SyncLoop(mode, tracker, mode.options, metrics, worker)
        tracker.on_change = syncing.wake
        task = asyncio.create_task(syncing.run())
        await asyncio.wait_for(body(syncing, tracker), 10)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        worker.shutdown()
        return metrics

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_changes_at_once_come_in_one_sync() -> None:
    mode = Recorder(ProxyOptions())

    async def body(_: SyncLoop, tracker: Tracker) -> None:
        await until(lambda: len(mode.syncs) == 1)
        for number in range(5):
            tracker.service(None, numbered(number))
        await until(lambda: len(mode.syncs) == 2)

    metrics = drive(mode, body)
    assert mode.syncs == [(0, True), (5, False)]
    assert [sum(one.counts) for one in (metrics.sync, metrics.full, metrics.partial)] == [2, 1, 1]
    assert (metrics.services.value, metrics.services_pending.value) == (5, 0)
    assert sum(metrics.programming.counts) == 0, "no EndpointSlice says when"


def test_min_sync_period_gathers() -> None:
    mode = Recorder(ProxyOptions(min_sync_period=0.3))

    async def body(_: SyncLoop, tracker: Tracker) -> None:
        await until(lambda: len(mode.syncs) == 1)
        started = asyncio.get_running_loop().time()
        for number in range(10):
            tracker.service(None, numbered(number))
            await asyncio.sleep(0.01)
        await until(lambda: len(mode.syncs) == 2)
        assert asyncio.get_running_loop().time() - started >= 0.2

    drive(mode, body)
    assert mode.syncs == [(0, True), (10, False)]


def test_a_mode_that_is_not_well_gets_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "HEALTH_CHECK", 0.02)
    mode = Recorder(ProxyOptions())

    async def body(_: SyncLoop, __: Tracker) -> None:
        await until(lambda: len(mode.syncs) == 1)
        mode.well = False
        await until(lambda: len(mode.syncs) == 2)

    drive(mode, body)
    assert mode.syncs == [(0, True), (0, False)]


@pytest.mark.feature("A17")
def test_repairs_come_by_themselves() -> None:
    mode = Recorder(ProxyOptions(sync_period=0.05))

    async def body(_: SyncLoop, __: Tracker) -> None:
        await until(lambda: len(mode.syncs) >= 3)

    drive(mode, body)
    assert all(repair for _, repair in mode.syncs)


def test_a_failed_sync_is_tried_again_as_a_repair(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "RETRY", 0.05)
    mode = Recorder(ProxyOptions(), failures=2)

    async def body(_: SyncLoop, tracker: Tracker) -> None:
        tracker.service(None, SERVICE)
        await until(lambda: bool(mode.syncs))

    metrics = drive(mode, body)
    assert mode.syncs == [(1, True)]
    assert (metrics.failures.value, metrics.partial_failures.value) == (2, 0)
    assert "the kernel says no" in caplog.text


@pytest.mark.feature("B13")
def test_programming_latency_counts_from_the_time_in_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's definition: each slice's trigger time, once, to the end of the sync that went well."""
    monkeypatch.setattr(loops, "RETRY", 0.05)
    mode = Recorder(ProxyOptions())

    async def body(syncing: SyncLoop, tracker: Tracker) -> None:
        await until(lambda: len(mode.syncs) == 1)
        mode.failures = 1
        changed = {"old": -3600.0, "new": -2.0, "none": 0.0, "odd": 0.0}
        tracker._since = time.time() - 60  # the agent has run for a minute
        for name, age in changed.items():
            when = {"none": None, "odd": "yesterday"}.get(name, stamp(age))
            tracker.endpoint_slice(None, piece(name, when))
        assert syncing.metrics.endpoints_pending.value == 4
        await until(lambda: len(mode.syncs) == 2)

    metrics = drive(mode, body)
    assert (metrics.endpoints.value, metrics.endpoints_pending.value) == (4, 0)
    assert metrics.partial_failures.value == 1
    assert sum(metrics.programming.counts) == 1
    assert 2 <= metrics.programming.total < 8
    assert 'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="1.0"} 0' in text(
        [metrics]
    )


def stamp(age: float) -> str:
    return datetime.fromtimestamp(time.time() + age, UTC).isoformat()


def piece(name: str, when: str | None) -> dict[str, object]:
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": when} if when else {}
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"namespace": "default", "name": name, "labels": labels, "annotations": annotations},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    }
