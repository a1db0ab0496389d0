"""What a watch tells, given what it selects: objects appear and go as they begin and cease to match."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from testbed.api.calls import Call, Target, selection
from testbed.api.lifecycle import DeleteOptions
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.status import StatusError
from testbed.api.store import Event, Gone
from testbed.api.table import PLAIN, Form
from testbed.api.watching import MOST_WAITING, Audience, View, Watches, send

KIND = BY_ID["configmaps"]


class Told:
    """What a watch is told."""

    def __init__(self, form: Form = PLAIN, namespace: str = "default", **query: str) -> None:
        self.call = Call(Target(KIND, namespace), "watch", query, form)
        self.view, self.lines = View(self.call, selection(self.call)), list[bytes]()

    def offer(self, event: Event) -> None:
        self.lines += [line] if (line := self.view.told(event)) else []


def told(watch: Told) -> list[tuple[str, str, dict[str, str]]]:
    events = [json.loads(line) for line in watch.lines]
    return [
        (each["type"], each["object"]["metadata"]["name"], each["object"].get("data", {})) for each in events
    ]


async def put(objects: Objects, name: str, value: str, **labels: str) -> None:
    if objects.store.get(KIND.id, ("default", name)):
        await objects.update(
            KIND,
            ("default", name),
            lambda old: {**old, "metadata": {**old["metadata"], "labels": labels}, "data": {"v": value}},
        )
    else:
        body = {"metadata": {"name": name, "labels": labels}, "data": {"v": value}}
        await objects.create(KIND, "default", body)


def test_an_object_that_ceases_to_match_is_deleted_for_this_watch(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            every, some, one = (
                Told(),
                Told(labelSelector="app=w"),
                Told(fieldSelector="metadata.name=b"),
            )
            for each in (every, some, one):
                objects.store.listen(KIND.id, each)
            await put(objects, "a", "1", app="w")
            await put(objects, "a", "2", app="w")
            await put(objects, "a", "3", app="x")
            await put(objects, "a", "4", app="w")
            await put(objects, "b", "1", app="x")
            await objects.delete(KIND, ("default", "a"), DeleteOptions())
            assert [event for event, *_ in told(every)] == ["ADDED", *["MODIFIED"] * 3, "ADDED", "DELETED"]
            assert told(some) == [
                ("ADDED", "a", {"v": "1"}),
                ("MODIFIED", "a", {"v": "2"}),
                ("DELETED", "a", {"v": "2"}),
                ("ADDED", "a", {"v": "4"}),
                ("DELETED", "a", {"v": "4"}),
            ]
            assert told(one) == [("ADDED", "b", {"v": "1"})]

    asyncio.run(main())


def test_another_namespace_is_not_told(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            here, there = Told(), Told(namespace="other")
            for each in (here, there):
                objects.store.listen(KIND.id, each)
            await put(objects, "a", "1")
            assert (len(told(here)), told(there)) == (1, [])

    asyncio.run(main())


def starting(objects: Objects, **query: str) -> list[Any]:
    """The lines that a watch begins with."""
    watch, watches = Told(**query), Watches(objects.store, 0)
    first, revision = watches.beginning(watch.view, watch.call)
    lines = b"".join(first) + watches._since(watch.view, revision)
    return [json.loads(line) for line in lines.splitlines()]


@pytest.mark.feature("C2", "C6")
def test_how_a_watch_begins(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            await put(objects, "a", "1")
            middle = objects.store.revision
            await put(objects, "b", "1")
            await put(objects, "a", "2")
            assert [(each["type"], each["object"]["metadata"]["name"]) for each in starting(objects)] == [
                ("ADDED", "a"),
                ("ADDED", "b"),
            ]
            resumed = starting(objects, resourceVersion=str(middle))
            assert [(each["type"], each["object"]["metadata"]["name"]) for each in resumed] == [
                ("ADDED", "b"),
                ("MODIFIED", "a"),
            ]
            assert starting(objects, resourceVersion=str(objects.store.revision)) == []
            *listed, end = starting(objects, sendInitialEvents="true", allowWatchBookmarks="true")
            assert [each["type"] for each in listed] == ["ADDED", "ADDED"]
            assert end["type"] == "BOOKMARK"
            assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert end["object"]["metadata"]["resourceVersion"] == str(objects.store.revision)

    asyncio.run(main())


@pytest.mark.feature("C2")
def test_a_revision_that_is_compacted_or_never_was_is_gone(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            await put(objects, "a", "0")
            first = objects.store.revision
            for value in range(100):
                await put(objects, "a", str(value + 1))
            for revision in (first, objects.store.revision + 1):
                with pytest.raises(Gone):
                    starting(objects, resourceVersion=str(revision))

    asyncio.run(main())


def test_a_table_watch_tells_rows(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            watch = Told(Form("Table", "meta.k8s.io", "v1"))
            objects.store.listen(KIND.id, watch)
            await put(objects, "a", "1")
            (event,) = (json.loads(line) for line in watch.lines)
            assert event["object"]["kind"] == "Table"
            assert event["object"]["rows"][0]["cells"][:2] == ["a", 1]

    asyncio.run(main())


class Connection(asyncio.WriteTransport):
    """A reader who takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.aborted = list[bytes](), False

    def write(self, data: Any) -> None:
        self.frames.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.frames))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def test_one_who_does_not_read_is_cut_off() -> None:
    slow = Connection()
    send(slow, b"x" * (MOST_WAITING // 2))
    assert not slow.aborted
    send(slow, b"x" * (MOST_WAITING // 2 + 1))
    assert slow.aborted
    send(slow, b"x")
    assert len(slow.frames) == 2


def test_events_share_a_write_and_nobody_gets_what_was_before_him(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            audience = Audience(Told().view, lambda: 30.0)
            objects.store.listen(KIND.id, audience)
            early, late = Connection(), Connection()
            audience.join(early)
            await put(objects, "first", "")
            await asyncio.sleep(0.01)  # the first write waits for nothing
            for name in "ab":
                await put(objects, name, "1")
            assert len(early.frames) == 1
            audience.join(late)
            await put(objects, "c", "1")
            audience.flush()
            assert [frame.count(b"ADDED") for frame in early.frames] == [1, 2, 1]
            assert late.frames == early.frames[2:]

    asyncio.run(main())


def test_one_watch_too_many_is_told_to_come_back(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            watches = Watches(objects.store, 1)
            watches.open["pods"] = 1
            with pytest.raises(StatusError) as refused:
                await watches.serve(None, Call(Target(KIND, ""), "watch", {}, PLAIN))  # type: ignore[arg-type]
            assert (refused.value.code, refused.value.retry_after) == (429, 1)

    asyncio.run(main())
