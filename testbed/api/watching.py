"""Watches: events of one kind, filtered, sent line by line as they become durable."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from testbed.api import table, twins
from testbed.api.calls import Call, Selection, selection
from testbed.api.registry import Kind
from testbed.api.status import bad_request, expired, too_many_requests
from testbed.api.store import Event, Gone, Record, Store

Object = dict[str, Any]
Encode = Callable[[str, bytes], bytes]

BOOKMARK_SECONDS = 60.0
SHORTEST, LONGEST = 1800, 3600
"""Seconds that a watch stays open which does not say how long (kube-apiserver's --min-request-timeout)."""
MOST_WAITING = 32 * 1024 * 1024
"""Bytes that may wait for a slow reader before its connection is cut; it resumes from where it was."""
GAP_EACH, SHORTEST_GAP, LONGEST_GAP = 50e-6, 0.001, 0.01
"""Seconds between two writes to a watch, for each watch open: of many watches, events share a write."""
_INITIAL_END = "k8s.io/initial-events-end"

_encoded: tuple[Event | None, bytes] = (None, b"")
"""The event published last and its line, so that however many watchers share one encoding."""


def _line(type: str, data: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (type.encode(), data)


def _shared_line(event: Event) -> bytes:
    global _encoded
    if _encoded[0] is not event:
        _encoded = (event, _line(event.type, event.record.data))
    return _encoded[1]


class Watcher:
    """One watch: takes events from the store, holds lines until they are sent."""

    def __init__(self, call: Call, wanted: Selection, cut: Callable[[], None]) -> None:
        self.wanted, self._cut = wanted, cut
        self.kind = call.target.kind.resource.qualified
        self._convert = _converter(call) if call.form.convert or call.target.kind.renames else None
        self._waiting: list[bytes] = []
        self._size = 0
        self.wake = asyncio.Event()
        self.closed = False

    def offer(self, event: Event) -> None:
        """Queue what this event means to this watch, if anything."""
        line = self._told(event)
        if line is not None:
            self.add(line)

    def add(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)
        self.wake.set()
        if self._size > MOST_WAITING and not self.closed:
            self.close()
            self._cut()

    def take(self) -> bytes:
        """All that waits."""
        lines, self._waiting, self._size = self._waiting, [], 0
        self.wake.clear()
        return b"".join(lines)

    def close(self) -> None:
        self.closed = True
        self.wake.set()

    def encode(self, type: str, data: bytes) -> bytes:
        return _line(type, self._convert(data) if self._convert else data)

    def _told(self, event: Event) -> bytes | None:
        """An object that begins or ceases to match appears or goes, as far as this watch is concerned."""
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
        self._open: set[Watcher] = set()
        self._closing = False

    def count(self) -> Counter[str]:
        """The open watches, by kind."""
        return Counter(watcher.kind for watcher in self._open)

    def close(self) -> None:
        """End all watches; clients resume them elsewhere, or later."""
        self._closing = True
        for watcher in self._open:
            watcher.close()

    async def serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Answer a watch until its time is up, the client leaves or the server ends. Raises StatusError."""
        if self._most and len(self._open) >= self._most:
            raise too_many_requests()
        watcher = Watcher(call, selection(call), lambda: _cut(request))
        seconds = _timeout(call)
        self._start(watcher, call)
        kind = call.target.kind
        self._open.add(watcher)
        self.store.listen(kind.id, watcher)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        try:
            await response.prepare(request)
            await self._send(response, watcher, kind, seconds, "allowWatchBookmarks" in call.query)
            await response.write_eof()
        finally:
            self.store.unlisten(kind.id, watcher)
            self._open.discard(watcher)
        return response

    def _start(self, watcher: Watcher, call: Call) -> None:
        """Queue what comes before live events: the objects there are, or the events since a revision."""
        kind, version = call.target.kind, call.query.get("resourceVersion") or "0"
        if not version.isdecimal():
            raise bad_request(f'resourceVersion: Invalid value: "{version}": must be a number')
        initial = call.query.get("sendInitialEvents")
        if initial == "true" or (initial != "false" and version == "0"):
            for record in self.store.items(kind.id, watcher.wanted.namespace):
                if watcher.wanted.matches(record):
                    watcher.add(watcher.encode("ADDED", record.data))
            if initial == "true" and "allowWatchBookmarks" in call.query:
                watcher.add(_bookmark(kind, self.store.revision, initial_end=True))
            return
        revision = int(version) or self.store.revision
        try:
            if revision > self.store.revision:  # of another store, before this one was made anew
                raise Gone
            for event in self.store.since(kind.id, revision):
                watcher.offer(event)
        except Gone:
            told = f"too old resource version: {version} ({self.store.compacted})"
            watcher.add(_line("ERROR", orjson.dumps(expired(told).status)))
            watcher.close()

    async def _send(
        self, response: web.StreamResponse, watcher: Watcher, kind: Kind, seconds: float, bookmarks: bool
    ) -> None:
        end = time.monotonic() + seconds
        while True:
            lines = watcher.take()
            if lines:
                await response.write(lines)
                if (gap := GAP_EACH * len(self._open)) >= SHORTEST_GAP:
                    await asyncio.sleep(min(gap, LONGEST_GAP))
                continue
            left = end - time.monotonic()
            if watcher.closed or self._closing or left <= 0:
                break
            try:
                await asyncio.wait_for(watcher.wake.wait(), min(left, BOOKMARK_SECONDS))
            except TimeoutError:
                if bookmarks:
                    watcher.add(_bookmark(kind, self.store.revision))


def _timeout(call: Call) -> float:
    text = call.query.get("timeoutSeconds") or "0"
    if not text.isdecimal():
        raise bad_request(f'timeoutSeconds: Invalid value: "{text}": must be a number')
    return float(text) or random.uniform(SHORTEST, LONGEST)


def _cut(request: web.BaseRequest) -> None:
    if request.transport:
        request.transport.abort()
