"""All objects in memory as bytes, in front of the journal; the log of recent events; who watches them.

One event loop calls the store, so a look at `latest` and the `put` that follows are one atomic step as long
as nothing is awaited between them. A write becomes visible, and its future done, when the journal has it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from testbed.api.journal import Journal, Row

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" for kinds outside namespaces) and name."""
Index = Callable[[str, Object], tuple[Mapping[str, str], Mapping[str, str]]]
"""(kind, object) -> its labels, and its selectable fields besides name and namespace."""
Derive = Callable[[str, Object], Iterable[tuple[str, Key, Object]]]
"""(kind, object) -> the objects (kind, key, object) that are there because it is."""

WINDOW = 10_000
"""Events kept for watches that resume; older ones are compacted, a sixteenth of it at a time."""
EMPTY: Mapping[str, str] = {}
NONE_DERIVED: Mapping[tuple[str, Key], Record] = {}


_OF_KEY = {"metadata.namespace": 0, "metadata.name": 1}


class Record:
    """An object at one revision: its JSON, and what selectors look at. Never changed once made."""

    __slots__ = ("data", "derived", "fields", "key", "labels", "revision")

    def __init__(
        self, key: Key, revision: int, data: bytes, labels: Mapping[str, str], fields: Mapping[str, str]
    ) -> None:
        self.key, self.revision, self.data, self.labels, self.fields = key, revision, data, labels, fields
        self.derived: Mapping[tuple[str, Key], Record] = NONE_DERIVED
        """What is there because this is: never in the journal, made from it anew."""

    def field(self, path: str) -> str | None:
        """What a field selector looks at."""
        if path in _OF_KEY:
            return self.key[_OF_KEY[path]]
        return self.fields.get(path)

    def decode(self) -> Object:
        """A fresh copy of the object, free to change."""
        return dict(orjson.loads(self.data))


class Event:
    """One revision. `type`: ADDED, MODIFIED, DELETED; `previous` is what it took the place of."""

    __slots__ = ("derived", "kind", "previous", "record", "type")

    def __init__(
        self, type: str, kind: str, record: Record, previous: Record | None, *, derived: bool = False
    ) -> None:
        self.type, self.kind, self.record, self.previous = type, kind, record, previous
        self.derived = derived


class Listener(Protocol):
    """Somebody who is told of every event of a kind, once it is durable."""

    def offer(self, event: Event) -> None: ...


class Gone(Exception):
    """The log no longer reaches back to the revision asked for."""


class StorageFailed(Exception):
    """The journal could not keep a write."""


class _Write(NamedTuple):
    """A revision on its way to the journal."""

    event: Event
    done: asyncio.Future[Record]


class _Trim(NamedTuple):
    """Rows to forget, now that the log is compacted this far."""

    compacted: int
    revisions: list[int]


class Store:
    """Open with `Store(journal, index)`, then `start()` on the loop; `close()` writes what is pending."""

    def __init__(
        self,
        journal: Journal,
        index: Index,
        window: int = WINDOW,
        derive: Derive = lambda kind, obj: (),
    ) -> None:
        self._journal, self._index, self._window, self._derive = journal, index, window, derive
        self._objects: dict[str, dict[Key, Record]] = {}
        self._pending: dict[tuple[str, Key], Event] = {}
        self._events: list[Event] = []
        self._listeners: dict[str, set[Listener]] = {}
        self._queue: queue.SimpleQueue[_Write | _Trim | None] = queue.SimpleQueue()
        self._last: asyncio.Future[Record] | None = None
        self._dropped = threading.Event()
        self.failed_hook: Callable[[], None] = lambda: None
        """Called when writes were lost: whatever was derived from them must be derived anew."""
        self.compacted = journal.compacted()
        self.revision = max(1, self.compacted)
        for row in journal.load():
            self._replay(row)
        self._assigned = self.revision

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._journal.close()

    # -- reading: only what is durable

    def get(self, kind: str, key: Key) -> Record | None:
        return self._objects.get(kind, {}).get(key)

    def count(self) -> dict[str, int]:
        """How many objects there are, by kind."""
        return {kind: len(objects) for kind, objects in self._objects.items()}

    def items(self, kind: str, namespace: str = "") -> list[Record]:
        """The objects of a kind (of a namespace) in order of namespace and name."""
        objects = self._objects.get(kind, {})
        keys = [key for key in objects if key[0] == namespace] if namespace else list(objects)
        keys.sort()
        return [objects[key] for key in keys]

    def since(self, kind: str, revision: int) -> Iterable[Event]:
        """The events of a kind after `revision`. Raises Gone."""
        if revision < self.compacted:
            raise Gone
        start = bisect_right(self._events, revision, key=lambda event: event.record.revision)
        return [event for event in self._events[start:] if event.kind == kind]

    def listen(self, kind: str, listener: Listener) -> None:
        self._listeners.setdefault(kind, set()).add(listener)

    def unlisten(self, kind: str, listener: Listener) -> None:
        self._listeners.get(kind, set()).discard(listener)

    # -- writing

    def latest(self, kind: str, key: Key) -> Record | None:
        """The newest version, durable or on its way: what a write must build on."""
        pending = self._pending.get((kind, key))
        if pending is None:
            return self.get(kind, key)
        return None if pending.type == "DELETED" else pending.record

    def put(self, kind: str, key: Key, obj: Object) -> asyncio.Future[Record]:
        """Create or replace. `obj` gets its resourceVersion. Done when durable; may raise StorageFailed."""
        return self._submit("MODIFIED" if self.latest(kind, key) else "ADDED", kind, key, obj)

    def delete(self, kind: str, key: Key, obj: Object) -> asyncio.Future[Record]:
        """Remove; `obj` is its last state."""
        return self._submit("DELETED", kind, key, obj)

    async def settled(self) -> None:
        """Wait until all that `latest` knows is visible to readers."""
        if self._last and not self._last.done():
            await asyncio.wait([self._last])

    def _submit(self, type: str, kind: str, key: Key, obj: Object) -> asyncio.Future[Record]:
        previous = self.latest(kind, key)
        self._assigned += 1
        obj["metadata"]["resourceVersion"] = str(self._assigned)
        record = self._record(kind, key, self._assigned, _json(obj), obj)
        event = Event(type, kind, record, previous)
        self._pending[kind, key] = event
        self._last = future = self._loop.create_future()
        self._queue.put(_Write(event, future))
        return future

    def _record(self, kind: str, key: Key, revision: int, data: bytes, obj: Object) -> Record:
        record = Record(key, revision, data, *self._index(kind, obj))
        derived = {}
        for what, place, made in self._derive(kind, obj):
            made["metadata"]["resourceVersion"] = str(revision)
            derived[what, place] = Record(place, revision, _json(made), *self._index(what, made))
        if derived:
            record.derived = derived
        return record

    def _replay(self, row: Row) -> None:
        key = (row.namespace, row.name)
        record = self._record(row.kind, key, row.revision, row.value, orjson.loads(row.value))
        objects = self._objects.setdefault(row.kind, {})
        previous = objects.get(key)
        type = "DELETED" if row.deleted else "MODIFIED" if previous else "ADDED"
        self._apply(Event(type, row.kind, record, previous))

    def _apply(self, event: Event) -> list[Event]:
        """Make an event, and what follows of it, visible. All of them, at one revision."""
        events = [event, *_following(event)]
        for each in events:
            objects = self._objects.setdefault(each.kind, {})
            if each.type == "DELETED":
                objects.pop(each.record.key, None)
            else:
                objects[each.record.key] = each.record
        self.revision = event.record.revision
        if self.revision > self.compacted:
            self._events += events
        return events

    # -- the writer: one thread, one transaction for all that is waiting

    def _write(self) -> None:
        running = True
        while running:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            running = None not in items
            batch = [item for item in items if isinstance(item, _Write)]
            if batch:
                self._append(batch)
            for item in items:
                if isinstance(item, _Trim):
                    self._trim(item)

    def _append(self, batch: list[_Write]) -> None:
        try:
            self._journal.append([_row(write.event) for write in batch])
        except sqlite3.Error as error:
            log.error("the journal cannot be written: %s", error)
            # Nothing may follow a lost write: wait until the loop has thrown away all that was queued.
            self._dropped.clear()
            self._loop.call_soon_threadsafe(self._lost, batch, error)
            self._dropped.wait()
        else:
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _trim(self, trim: _Trim) -> None:
        try:
            self._journal.trim(trim.compacted, trim.revisions)
        except sqlite3.Error as error:
            log.warning("the journal keeps rows that nobody needs: %s", error)

    def _committed(self, batch: list[_Write]) -> None:
        """On the loop: the batch is durable: publish it and wake those who wait for it."""
        for event, done in batch:
            pending_key = (event.kind, event.record.key)
            if self._pending.get(pending_key) is event:
                del self._pending[pending_key]
            for each in self._apply(event):
                for listener in tuple(self._listeners.get(each.kind, ())):
                    listener.offer(each)
            if not done.done():
                done.set_result(event.record)
        if len(self._events) > self._window + self._window // 16:
            self.compact(len(self._events) - self._window)

    def _lost(self, batch: list[_Write], error: Exception) -> None:
        """On the loop: the batch is lost, and what was queued behind it, as it may build on it."""
        closing = False
        while not self._queue.empty():
            item = self._queue.get()
            closing = closing or item is None
            if isinstance(item, _Write):
                batch.append(item)
        self._pending.clear()
        for _, done in batch:
            if not done.done():
                done.set_exception(StorageFailed(str(error)))
        self.failed_hook()
        if closing:
            self._queue.put(None)
        self._dropped.set()

    def compact(self, count: int) -> None:
        """Forget the `count` oldest events, and the rows that only they need."""
        old, self._events = self._events[:count], self._events[count:]
        if not old:
            return
        self.compacted = old[-1].record.revision
        kept = [event for event in old if not event.derived]
        drops = [event.previous.revision for event in kept if event.previous]
        drops += [event.record.revision for event in kept if event.type == "DELETED"]
        self._queue.put(_Trim(self.compacted, drops))


def _json(obj: Object) -> bytes:
    """JSON of its own size: what orjson returns may hold on to kilobytes of its buffer."""
    return bytes(memoryview(orjson.dumps(obj)))


def _following(event: Event) -> Iterator[Event]:
    """What comes and goes because the object of an event comes, changes or goes."""
    before = event.previous.derived if event.previous else NONE_DERIVED
    after = NONE_DERIVED if event.type == "DELETED" else event.record.derived
    for (kind, key), record in before.items():
        if (kind, key) not in after:
            obj = record.decode()
            obj["metadata"]["resourceVersion"] = str(event.record.revision)
            gone = Record(key, event.record.revision, _json(obj), record.labels, record.fields)
            yield Event("DELETED", kind, gone, record, derived=True)
    for (kind, key), record in after.items():
        if (kind, key) not in before:
            yield Event("ADDED", kind, record, None, derived=True)
    event.record.derived = {place: before.get(place, record) for place, record in after.items()}


def _row(event: Event) -> Row:
    namespace, name = event.record.key
    return Row(event.record.revision, event.kind, namespace, name, event.type == "DELETED", event.record.data)
