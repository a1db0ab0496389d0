"""What a change costs an agent: one endpoint written, and a start with everything in place."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator

from testbed.bench import agents, objects
from testbed.bench.measures import PROGRAMMING, PROGRAMMING_UPSTREAM, SYNC_CHANGE, SYNC_FULL
from testbed.bench.place import Place
from testbed.bench.plan import Profile
from testbed.bench.stage import CHANGING, Stage
from testbed.bench.taking import Sample, Seat, Taking
from testbed.bench.waiting import first_answer, first_refusal
from testbed.bench.writing import DEADLINE
from testbed.client import Client
from testbed.errors import TestbedError
from testbed.model.resources import ENDPOINT_SLICES

CLOSELY = 0.001
"""Seconds between two tries to reach the Service: what the first packet is good to."""


@contextlib.contextmanager
def only(stage: Stage, name: str) -> Iterator[None]:
    """All other agents are held, lest they compete for the processors."""
    others = [column.name for column in stage.columns if column.name != name]
    for other in others:
        stage.site.hold(other, True)
    try:
        yield
    finally:
        for other in others:
            stage.site.hold(other, False)


def change(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    """A Service's first endpoint, `changes` times; it is taken away again in between."""
    with seat.stage.site.node(seat.name) as node, only(seat.stage, seat.name):
        yield from asyncio.run(_changes(seat, node, profile.changes))


async def _changes(seat: Seat, node: Place, count: int) -> list[Sample]:
    target = (seat.stage.cluster_ip(CHANGING), objects.PORT)
    found: list[Sample] = []
    async with Client.from_kubeconfig(seat.stage.site.kubeconfig) as client:
        for _ in range(count):
            before = node.call(agents.metrics)
            wait = seat.place.start(first_answer, target, DEADLINE, CLOSELY)
            started = time.perf_counter()
            await _put(client, seat.stage.backends[:1])
            answered = wait.result(DEADLINE + 30)
            took = f"no answer in {DEADLINE:g} s" if answered is None else (answered - started) * 1e3
            found.append(Sample(PROGRAMMING, "only", took))
            if before:
                now = node.call(agents.next_sync, before, DEADLINE)
                for measure, name in ((SYNC_CHANGE, agents.SYNC), (PROGRAMMING_UPSTREAM, agents.PROGRAMMING)):
                    seconds, syncs = agents.after(before, now, name)
                    if syncs:
                        found.append(Sample(measure, "only", seconds / syncs * 1e3))
            await _put(client, [])
            if seat.place.call(first_refusal, target, DEADLINE) is None:
                raise TestbedError(f"{seat.name}: a Service answers {DEADLINE:g} s after its endpoint went")
            if before:
                node.call(agents.next_sync, now, DEADLINE)
    return found


async def _put(client: Client, backends: list[tuple[str, str]]) -> None:
    await client.update(ENDPOINT_SLICES, objects.slice_(CHANGING, backends))


def restart(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    site = seat.stage.site
    with site.node(seat.name) as node, only(seat.stage, seat.name):
        site.restart(seat.name)
        seconds, count = node.call(agents.first_sync, DEADLINE)[agents.SYNC]
    yield Sample(SYNC_FULL, "only", seconds / count * 1e3)


CHANGE = Taking(
    (PROGRAMMING, PROGRAMMING_UPSTREAM, SYNC_CHANGE),
    change,
    rounds=lambda profile: 2,
    cost=lambda profile: 0.2 * profile.changes,
    paths=False,
    quick_translated=True,
)
RESTART = Taking((SYNC_FULL,), restart, lambda profile: profile.starts, lambda profile: 2.0, paths=False)
