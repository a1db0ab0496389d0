"""Watches are Ordered, Unique, Atomic, Reliable, Resumable and Bookmarkable in etcd's sense.

Hypothesis writes, deletes, compacts, restarts the server, opens and breaks watches in any order, beside a
model.
https://etcd.io/docs/v3.5/learning/api_guarantees/#watch-apis
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from testbed.api.journal import SQLiteJournal
from testbed.api.store import Event, Gone, Store

KIND, TWINS = "things", "twins"
WRITES = st.tuples(st.sampled_from("abc"), st.sampled_from(["", "l", "r", "lr", None]))
"""The name of a thing and its sides; None deletes it."""


def index(kind: str, obj: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    return {}, {}


def derive(kind: str, obj: dict[str, Any]) -> list:
    """Each thing has two twins for each of its sides."""
    if kind != KIND:
        return []
    names = [f"{obj['metadata']['name']}{side}{number}" for side in obj["sides"] for number in (1, 2)]
    return [(TWINS, ("", name), {"metadata": {"name": name}}) for name in names]


class Watch:
    """A client: what it has made of the events it saw, over all its connections."""

    def __init__(self, kind: str, state: dict[str, Any], revision: int) -> None:
        self.kind, self.state, self.revision = kind, state, revision
        self.last_batch: list[Event] = []

    def offer(self, event: Event) -> None:
        revision, name = event.record.revision, event.record.key[1]
        assert revision >= self.revision, "Ordered"
        if revision == self.revision:
            assert self.last_batch, "Unique: seen before the connection broke"
            assert (name, event.type) not in {(e.record.key[1], e.type) for e in self.last_batch}, "Unique"
        self.last_batch = [*(self.last_batch if revision == self.revision else []), event]
        self.revision = revision
        assert (event.type == "ADDED") == (name not in self.state)
        if event.type == "DELETED":
            del self.state[name]
        else:
            self.state[name] = event.record.decode().get("value")


class Watches(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.things: dict[str, tuple[int, str]] = {}
        self.open: list[Watch] = []
        self.broken: list[Watch] = []
        self.step = 0
        self._started()

    def _started(self) -> None:
        path = Path(self.directory.name) / "db"
        self.store = Store(SQLiteJournal(path), index, window=12, derive=derive)
        self.run(self._start())

    async def _start(self) -> None:
        self.store.start()

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    def wanted(self, kind: str) -> dict[str, Any]:
        if kind == KIND:
            return {name: value for name, (value, _) in self.things.items()}
        return {
            f"{name}{side}{n}": None
            for name, (_, sides) in self.things.items()
            for side in sides
            for n in (1, 2)
        }

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4))
    def write(self, writes: list[tuple[str, str | None]]) -> None:
        """Several at once: they may share a transaction."""

        async def main() -> None:
            last = None
            for name, sides in writes:
                self.step += 1
                obj = {"metadata": {"name": name}, "value": self.step, "sides": sides or ""}
                if sides is not None:
                    last = self.store.put(KIND, ("", name), obj)
                    self.things[name] = (self.step, sides)
                elif self.things.pop(name, None):
                    last = self.store.delete(KIND, ("", name), obj)
            if last:
                await last

        self.run(main())

    @rule(kind=st.sampled_from([KIND, TWINS]))
    def begin(self, kind: str) -> None:
        """List, and watch from there."""
        listed = {each.key[1]: each.decode().get("value") for each in self.store.items(kind)}
        assert listed == self.wanted(kind)
        watch = Watch(kind, listed, self.store.revision)
        self.store.listen(kind, watch)
        self.open.append(watch)

    @precondition(lambda self: self.open)
    @rule(bookmark=st.booleans())
    def disconnect(self, bookmark: bool) -> None:
        watch = self.open.pop(0)
        self.store.unlisten(watch.kind, watch)
        if bookmark:
            watch.revision = self.store.revision  # as a bookmark tells it
        watch.last_batch = []
        self.broken.append(watch)

    @precondition(lambda self: self.broken)
    @rule()
    def resume(self) -> None:
        watch = self.broken.pop(0)
        try:
            missed = list(self.store.since(watch.kind, watch.revision))
        except Gone:
            assert watch.revision < self.store.compacted
            return
        assert watch.revision >= self.store.compacted
        for event in missed:
            assert event.record.revision > watch.revision or watch.last_batch, "Resumable"
            watch.offer(event)
        self.store.listen(watch.kind, watch)
        self.open.append(watch)

    @rule()
    def compact(self) -> None:
        self.store.compact(4)

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        for watch in self.open:
            watch.last_batch = []
        self.broken += self.open
        self.open = []
        self._started()

    @invariant()
    def every_open_watch_has_seen_everything(self) -> None:
        for watch in self.open:
            assert watch.state == self.wanted(watch.kind), "Reliable"
            if watch.kind == TWINS and watch.last_batch:
                of_one = {event.record.key[1][:-1] for event in watch.last_batch}
                assert len(watch.last_batch) == 2 * len(of_one), "Atomic"

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.directory.cleanup()


TestWatches = pytest.mark.feature("C2")(Watches.TestCase)
TestWatches.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
