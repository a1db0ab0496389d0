"""The store: what is acknowledged is durable and visible; watchers see each revision once, in order."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.api.journal import Row, SQLiteJournal
from testbed.api.store import Event, Gone, StorageFailed, Store
from testbed.errors import UsageError

KIND = "things"
NAMES = ("a", "b", "c")


def index(kind: str, obj: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    return obj["metadata"].get("labels") or {}, {"metadata.name": obj["metadata"]["name"]}


def thing(name: str, value: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name}, "value": value}


class Log:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def offer(self, event: Event) -> None:
        self.events.append(event)

    def told(self) -> list[tuple[str, str, int]]:
        return [(each.type, each.record.key[1], each.record.revision) for each in self.events]


def replay(start: dict[str, int], events: Sequence[Event]) -> dict[str, int]:
    state = dict(start)
    for event in events:
        name = event.record.key[1]
        assert (event.type == "ADDED") == (name not in state)
        if event.type == "DELETED":
            del state[name]
        else:
            state[name] = event.record.decode()["value"]
    return state


def contents(store: Store) -> dict[str, int]:
    return {record.key[1]: record.decode()["value"] for record in store.items(KIND)}


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "settle"]), st.sampled_from(NAMES)), max_size=60
)


@settings(max_examples=30)
@given(OPERATIONS, st.integers(4, 40))
@pytest.mark.feature("C2")
def test_store_and_watches_agree_with_a_dictionary(operations: list[tuple[str, str]], window: int) -> None:
    """Any listener that starts at any revision still kept sees exactly what came after, in order."""

    async def scenario(path: Path) -> None:
        store = Store(SQLiteJournal(path), index, window)
        store.start()
        listener, model, snapshots = Log(), {}, {store.revision: {}}
        store.listen(KIND, listener)
        for step, (operation, name) in enumerate(operations):
            if operation == "put":
                done = store.put(KIND, ("", name), thing(name, step))
                model[name] = step
            elif operation == "delete" and store.latest(KIND, ("", name)):
                done = store.delete(KIND, ("", name), thing(name))
                del model[name]
            else:
                await store.settled()
                continue
            snapshots[(await done).revision] = dict(model)
            assert contents(store) == model
        revisions = [event.record.revision for event in listener.events]
        assert revisions == sorted(set(revisions))
        assert replay({}, listener.events) == model
        for revision, state in snapshots.items():
            if revision < store.compacted:
                with pytest.raises(Gone):
                    store.since(KIND, revision)
            else:
                assert replay(state, list(store.since(KIND, revision))) == model
        before = (store.revision, contents(store))
        await store.close()
        again = Store(SQLiteJournal(path), index, window)
        assert (again.revision, contents(again)) == before
        again.start()
        await again.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(directory) / "db"))


def test_compaction_keeps_the_file_as_small_as_the_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(SQLiteJournal(tmp_path / "db"), index, window=32)
        store.start()
        for value in range(500):
            await store.put(KIND, ("", NAMES[value % 3]), thing(NAMES[value % 3], value))
        await store.delete(KIND, ("", "a"), thing("a"))
        await store.close()

    asyncio.run(scenario())
    with sqlite3.connect(tmp_path / "db") as db:
        (rows,) = db.execute("SELECT count(*) FROM log").fetchone()
    db.close()
    assert rows < 32 * 2


def test_a_write_sees_the_one_before_it_even_before_that_is_durable(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = Store(SQLiteJournal(tmp_path / "db"), index)
        store.start()
        first = store.put(KIND, ("", "a"), thing("a", 1))
        latest = store.latest(KIND, ("", "a"))
        assert latest is not None
        assert store.get(KIND, ("", "a")) is None
        second = store.put(KIND, ("", "a"), thing("a", 2))
        assert (await second).revision == (await first).revision + 1
        assert contents(store) == {"a": 2}
        await store.close()

    asyncio.run(scenario())


class Failing:
    """A journal on a full disk."""

    def __init__(self) -> None:
        self.full = False
        self.rows: list[Row] = []

    def compacted(self) -> int:
        return 0

    def load(self) -> list[Row]:
        return []

    def append(self, rows: Sequence[Row]) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        self.rows += rows

    def trim(self, compacted: int, revisions: object) -> None:
        pass

    def close(self) -> None:
        pass


def test_writes_that_cannot_be_stored_fail_and_leave_no_trace() -> None:
    async def scenario() -> None:
        journal, called = Failing(), []
        store = Store(journal, index)  # type: ignore[arg-type]
        store.failed_hook = lambda: called.append(True)
        store.start()
        await store.put(KIND, ("", "a"), thing("a", 1))
        journal.full = True
        lost = [store.put(KIND, ("", "a"), thing("a", value)) for value in (2, 3)]
        for each in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(each, StorageFailed)
        assert called
        assert contents(store) == {"a": 1}
        journal.full = False
        await store.put(KIND, ("", "a"), thing("a", 4))
        assert contents(store) == {"a": 4}
        await store.close()

    asyncio.run(scenario())


def test_one_server_for_a_file(tmp_path: Path) -> None:
    held = SQLiteJournal(tmp_path / "db")
    with pytest.raises(UsageError, match="locked"):
        SQLiteJournal(tmp_path / "db", patience=0.05)
    held.close()


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """synchronous=FULL (2) with a WAL: an fsync a commit (sqlite.org/pragma.html#pragma_synchronous)."""
    journal = SQLiteJournal(tmp_path / "db")
    found = [journal._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    journal.close()
    assert found == ["wal", 2]
