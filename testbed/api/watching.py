"""Watches: events of one kind, filtered, sent line by line as they become durable."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from aiohttp import HttpVersion11, web

from testbed.api import table, twins
from testbed.api.calls import Call, Selection, selection
from testbed.api.registry import Kind
from testbed.api.status import bad_request, expired, too_many_requests
from testbed.api.store import Event, Gone, Record, Store

Object = dict[str, Any]

BOOKMARK_SECONDS = 60.0
SHORTEST, LONGEST = 1800, 3600
"""Seconds that a watch stays open which does not say how long (kube-apiserver's --min-request-timeout)."""
MOST_WAITING = 32 * 1024 * 1024
"""Bytes that may wait for a slow reader before its connection is cut; it resumes from where it was."""
GAP_EACH, SHORTEST_GAP, LONGEST_GAP = 100e-6, 0.001, 0.05
"""Seconds between two writes to a watch, for each watch open: of many watches, events share a write."""
PIECE = 256
"""Objects that a watch begins with and that share a write."""
_INITIAL_END = "k8s.io/initial-events-end"

_encoded: tuple[Event | None, bytes] = (None, b"")
"""The event published last and its line, so that however many watches share one encoding."""


def _line(type: str, data: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (type.encode(), data)


def _shared_line(event: Event) -> bytes:
    global _encoded
    if _encoded[0] is not event:
        _encoded = (event, _line(event.type, event.record.data))
    return _encoded[1]


class View:
    """What watches of one kind, selection and form are told of an event."""

    def __init__(self, call: Call, wanted: Selection) -> None:
        self.wanted, self.kind = wanted, call.target.kind
        self._convert = _converter(call) if call.form.convert or self.kind.renames else None

    def encode(self, type: str, data: bytes) -> bytes:
        return _line(type, self._convert(data) if self._convert else data)

    def told(self, event: Event) -> bytes | None:
        """An object that begins or ceases to match appears or goes, as far as these watches are concerned."""
        matches = event.type != "DELETED" and self.wanted.matches(event.record)
        matched = event.previous is not None and self.wanted.matches(event.previous)
        if event.type == "DELETED" and event.previous is None:
            matched = self.wanted.matches(event.record)
        if matches:
            type = "MODIFIED" if matched else "ADDED"
            return self._whole(event) if type == event.type else self.encode(type, event.record.data)
        if not matched:
            return None
        if event.type == "DELETED" or event.previous is None:
            return self._whole(event)
        return self.encode("DELETED", _at_revision(event.previous, event.record.revision))

    def _whole(self, event: Event) -> bytes:
        return self.encode(event.type, event.record.data) if self._convert else _shared_line(event)


class Audience:
    """The watches of one view. An event is put into words once for all of them; several share a write."""

    def __init__(self, view: View, gap: Callable[[], float]) -> None:
        """`gap`: how many seconds are to be between two writes."""
        self.view, self._gap = view, gap
        self.members: set[asyncio.WriteTransport] = set()
        self._waiting: list[bytes] = []
        self._last = 0.0

    def offer(self, event: Event) -> None:
        """From the store: an event of the kind."""
        line = self.view.told(event)
        if line is None:
            return
        if not self._waiting:
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._last + self._gap()), self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        """Send all that waits."""
        if not self._waiting:
            return
        frame = _frame(b"".join(self._waiting))
        self._waiting.clear()
        for each in tuple(self.members):
            send(each, frame)
        self._last = asyncio.get_running_loop().time()

    def join(self, transport: asyncio.WriteTransport) -> None:
        """From now on: what waits is for those who were there before."""
        self.flush()
        self.members.add(transport)


def _frame(data: bytes) -> bytes:
    """A chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def send(transport: asyncio.WriteTransport, frame: bytes) -> None:
    """Write without waiting; who lets too much wait is cut off, and resumes when he is back."""
    if not transport.is_closing():
        transport.write(frame)
        if transport.get_write_buffer_size() > MOST_WAITING:
            transport.abort()


def _at_revision(record: Record, revision: int) -> bytes:
    obj = record.decode()
    obj["metadata"]["resourceVersion"] = str(revision)
    return orjson.dumps(obj)


def _converter(call: Call) -> Callable[[bytes], bytes]:
    include = call.query.get("includeObject", "Metadata")
    kind = call.target.kind

    def convert(data: bytes) -> bytes:
        if not call.form.convert:
            return twins.shown(kind, data)
        obj: Object = orjson.loads(data)
        if call.form.convert == "PartialObjectMetadata":
            return orjson.dumps(table.partial(obj))
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return orjson.dumps(table.table(kind, [obj], metadata, include))

    return convert


def _bookmark(kind: Kind, revision: int, *, initial_end: bool = False) -> bytes:
    metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {_INITIAL_END: "true"}
    resource = kind.resource
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return _line("BOOKMARK", orjson.dumps(obj))


class Watches:
    """All open watches of a server."""

    def __init__(self, store: Store, most: int) -> None:
        """`most`: how many may be open at a time; 0 is any number."""
        self.store, self._most = store, most
        self.open: Counter[str] = Counter()
        """How many, by kind."""
        self._audiences: dict[object, Audience] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all watches; clients resume them elsewhere, or later."""
        self._closing.set()

    async def serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Answer a watch until its time is up, the client leaves or the server ends. Raises StatusError."""
        if self._most and self.open.total() >= self._most:
            raise too_many_requests()
        if request.version < HttpVersion11:
            raise bad_request("a watch needs HTTP/1.1")
        view, seconds = View(call, selection(call)), _timeout(call)
        first, revision = self.beginning(view, call)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        kind = view.kind.resource.qualified
        self.open[kind] += 1
        try:
            await response.prepare(request)
            for lines in first:
                await response.write(lines)
            while lines := self._since(view, revision):
                revision = self.store.revision
                await response.write(lines)
            transport = request.transport
            if transport is not None:
                await self._follow(transport, view, call, seconds)
            await response.write_eof()
        except Gone:
            told = f"too old resource version: {revision} ({self.store.compacted})"
            await response.write(_line("ERROR", orjson.dumps(expired(told).status)))
            await response.write_eof()
        finally:
            self.open[kind] -= 1
        return response

    def beginning(self, view: View, call: Call) -> tuple[Iterable[bytes], int]:
        """What comes before live events: the objects there are, if asked for; and the revision it is of."""
        version = call.query.get("resourceVersion") or "0"
        if not version.isdecimal():
            raise bad_request(f'resourceVersion: Invalid value: "{version}": must be a number')
        initial = call.query.get("sendInitialEvents")
        revision = self.store.revision
        if initial == "true" or (initial != "false" and version == "0"):
            bookmark = initial == "true" and "allowWatchBookmarks" in call.query
            end = _bookmark(view.kind, revision, initial_end=True) if bookmark else b""
            return _objects(view, self.store.items(view.kind.id, view.wanted.namespace), end), revision
        return (), int(version) or revision

    def _since(self, view: View, revision: int) -> bytes:
        """The lines of what came after a revision. Raises Gone."""
        if revision > self.store.revision:  # of another store, before this one was made anew
            raise Gone
        events = self.store.since(view.kind.id, revision)
        return b"".join(line for event in events if (line := view.told(event)))

    async def _follow(
        self, transport: asyncio.WriteTransport, view: View, call: Call, seconds: float
    ) -> None:
        """Be told of events with all others who look the same way, until the time is up."""
        key = (view.kind.resource, view.wanted, call.form, call.query.get("includeObject"))
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(view, self._gap)
            self.store.listen(view.kind.id, audience)
        audience.join(transport)
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0 and not self._closing.is_set():
                try:
                    await asyncio.wait_for(self._closing.wait(), min(left, BOOKMARK_SECONDS))
                except TimeoutError:
                    audience.flush()
                    if "allowWatchBookmarks" in call.query:
                        send(transport, _frame(_bookmark(view.kind, self.store.revision)))
            audience.flush()
        finally:
            audience.members.discard(transport)
            if not audience.members and self._audiences.get(key) is audience:
                del self._audiences[key]
                self.store.unlisten(view.kind.id, audience)

    def _gap(self) -> float:
        gap = GAP_EACH * self.open.total()
        return min(gap, LONGEST_GAP) if gap >= SHORTEST_GAP else 0.0


def _objects(view: View, records: list[Record], end: bytes) -> Iterator[bytes]:
    """The objects that are there, some at a time, and what ends them."""
    matching = [record for record in records if view.wanted.matches(record)]
    for at in range(0, len(matching), PIECE):
        yield b"".join(view.encode("ADDED", record.data) for record in matching[at : at + PIECE])
    if end:
        yield end


def _timeout(call: Call) -> float:
    text = call.query.get("timeoutSeconds") or "0"
    if not text.isdecimal():
        raise bad_request(f'timeoutSeconds: Invalid value: "{text}": must be a number')
    return float(text) or random.uniform(SHORTEST, LONGEST)
