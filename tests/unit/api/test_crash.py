"""The server killed in a storm of writes, 50 times: what it acknowledged is there, and watches go on."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from testbed.api.server import Server, Settings
from testbed.client import ApiError, Client
from testbed.model.resources import CONFIG_MAPS

ROUNDS, ACKNOWLEDGED, WRITERS = 50, 40, "abcdefgh"
Write = tuple[int, str, int]
"""Revision, name, value."""


def write_of(obj: dict[str, Any]) -> Write:
    metadata = obj["metadata"]
    return int(metadata["resourceVersion"]), metadata["name"], int(obj["data"]["value"])


class Storm:
    """Writers, and a watch that is resumed where it broke, over all lives of the server."""

    def __init__(self) -> None:
        self.acknowledged: list[Write] = []
        self.seen: list[Write] = []

    async def rage(self, client: Client, victim: int) -> None:
        """Until the server is killed in the middle of it."""
        end = len(self.acknowledged) + ACKNOWLEDGED

        async def write(name: str) -> None:
            held = [value for _, key, value in self.acknowledged if key == name]
            for value in itertools.count(max(held, default=0) + 1):
                obj = {"metadata": {"name": name, "namespace": "default"}, "data": {"value": str(value)}}
                done = client.update(CONFIG_MAPS, obj) if held else client.create(CONFIG_MAPS, obj)
                self.acknowledged.append(write_of(await done))
                held.append(value)
                if len(self.acknowledged) == end:
                    os.kill(victim, signal.SIGKILL)

        tasks = [*map(write, WRITERS), self.watch(client)]
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, ApiError), error
            assert error.code in (0, 409), error  # gone, or created though nobody was told

    async def watch(self, client: Client, last: int | None = None) -> None:
        """On from what was seen, to the end or to a revision."""
        start = str(self.seen[-1][0] if self.seen else 1)
        async for event in client.watch(CONFIG_MAPS, "default", resource_version=start, bookmarks=False):
            self.seen.append(write_of(event.object))
            if self.seen[-1][0] == last:
                return

    async def settle(self, client: Client) -> None:
        """What is there in the end, and all that was missed."""
        items = [write_of(each) for each in (await client.list(CONFIG_MAPS, "default")).items]
        if self.seen[-1] < max(items):
            await asyncio.wait_for(self.watch(client, max(items)[0]), 60)
        assert {name: (revision, name, value) for revision, name, value in self.seen} == {
            write[1]: write for write in items
        }


def started(settings: Settings) -> int:
    """A server in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(Server(settings).run())
        finally:
            os._exit(1)
    return child


@pytest.mark.feature("C6")
def test_no_acknowledged_write_is_lost_and_watches_resume(
    tmp_path: Path, settings: Settings, ready: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = Storm()

    async def against(scenario: Any, *given: Any) -> None:
        async with Client.from_kubeconfig(tmp_path / "config") as client:
            await ready(client)
            await scenario(client, *given)

    for number in range(ROUNDS + 1):
        child = started(settings)
        try:
            asyncio.run(against(*([storm.rage, child] if number < ROUNDS else [storm.settle])))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    revisions = [revision for revision, _, _ in storm.seen]
    assert revisions == sorted(set(revisions))
    assert set(storm.acknowledged) <= set(storm.seen)
    assert len(storm.acknowledged) >= ROUNDS * ACKNOWLEDGED
    with capsys.disabled():
        told = f"{ROUNDS} kills, {len(storm.acknowledged):,} acknowledged writes, none lost"
        print(f"\n  {told}; a watch resumed each time saw {len(storm.seen):,} events in order, each once")
