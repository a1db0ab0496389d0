"""Killed in a storm of writes, 50 times: what was acknowledged is there, and watches go on from there."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.api.journal import SQLiteJournal
from testbed.api.store import Store

KIND = "things"
ROUNDS, ACKNOWLEDGED, WRITERS = 50, 40, "abcdefgh"


def opened(path: Path) -> Store:
    return Store(SQLiteJournal(path), lambda kind, obj: ({}, {}), window=100_000)


async def storm(path: Path, tell: int) -> None:
    """Write for ever, and tell of each write once it is acknowledged."""
    store = opened(path)
    store.start()

    async def writer(name: str) -> None:
        held = store.get(KIND, ("", name))
        for value in itertools.count(held.decode()["value"] + 1 if held else 1):
            done = await store.put(KIND, ("", name), {"metadata": {"name": name}, "value": value})
            os.write(tell, f"{name} {value} {done.revision}\n".encode())

    await asyncio.gather(*map(writer, WRITERS))


def killed(path: Path) -> Iterator[tuple[str, int, int]]:
    """What a process acknowledged (name, value, revision) until it was killed."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            asyncio.run(storm(path, writes))
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads) as lines:
        for number, line in enumerate(lines):
            if number == ACKNOWLEDGED:
                os.kill(child, signal.SIGKILL)
            if line.endswith("\n"):
                name, value, revision = line.split()
                yield name, int(value), int(revision)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.feature("C6")
def test_no_acknowledged_write_is_lost_and_watches_resume(tmp_path: Path) -> None:
    writes = 0
    for number in range(ROUNDS):
        acknowledged = list(killed(tmp_path / "db"))
        writes += len(acknowledged)
        store = opened(tmp_path / "db")
        kept = {record.key[1]: record.decode()["value"] for record in store.items(KIND)}
        for name, value, _ in acknowledged:
            assert value <= kept[name]
        seen = acknowledged[number % ACKNOWLEDGED][2]
        resumed = [event.record for event in store.since(KIND, seen)]
        missed = [(each.key[1], each.decode()["value"], each.revision) for each in resumed]
        told = [each for each in acknowledged if each[2] > seen]
        assert [each for each in missed if each in told] == sorted(told, key=lambda each: each[2])
        last = max(revision for _, _, revision in acknowledged)
        assert all(each in told for each in missed if each[2] <= last - len(WRITERS))
        asyncio.run(_closed(store))
    assert writes >= ROUNDS * ACKNOWLEDGED


async def _closed(store: Store) -> None:
    store.start()
    await store.close()
