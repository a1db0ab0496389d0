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
from testbed.api.table import PLAIN, Form
from testbed.api.watching import MOST_WAITING, Watcher, Watches

KIND = BY_ID["configmaps"]


def watcher(form: Form = PLAIN, namespace: str = "default", **query: str) -> Watcher:
    call = Call(Target(KIND, namespace), "watch", query, form)
    return Watcher(call, selection(call), lambda: None)


def told(watch: Watcher) -> list[tuple[str, str, dict[str, str]]]:
    events = [json.loads(line) for line in watch.take().splitlines()]
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
                watcher(),
                watcher(labelSelector="app=w"),
                watcher(fieldSelector="metadata.name=b"),
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
            here, there = watcher(), watcher(namespace="other")
            for each in (here, there):
                objects.store.listen(KIND.id, each)
            await put(objects, "a", "1")
            assert (len(told(here)), told(there)) == (1, [])

    asyncio.run(main())


def starting(objects: Objects, **query: str) -> list[Any]:
    """The lines that a watch begins with."""
    watch, call = watcher(**query), Call(Target(KIND, "default"), "watch", query, PLAIN)
    Watches(objects.store, 0)._start(watch, call)
    return [json.loads(line) for line in watch.take().splitlines()]


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
                (error,) = starting(objects, resourceVersion=str(revision))
                assert error["type"] == "ERROR"
                assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")

    asyncio.run(main())


def test_a_table_watch_tells_rows(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            watch = watcher(Form("Table", "meta.k8s.io", "v1"))
            objects.store.listen(KIND.id, watch)
            await put(objects, "a", "1")
            (event,) = (json.loads(line) for line in watch.take().splitlines())
            assert event["object"]["kind"] == "Table"
            assert event["object"]["rows"][0]["cells"][:2] == ["a", 1]

    asyncio.run(main())


@pytest.mark.parametrize(("size", "cut"), [(MOST_WAITING // 2, False), (MOST_WAITING + 1, True)])
def test_a_slow_reader_is_cut_off(size: int, cut: bool) -> None:
    cuts = []
    call = Call(Target(KIND, "default"), "watch", {}, PLAIN)
    watch = Watcher(call, selection(call), lambda: cuts.append(True))
    watch.add(b"x" * size)
    assert bool(cuts) is watch.closed is cut


def test_one_watch_too_many_is_told_to_come_back(opened: Any) -> None:
    async def main() -> None:
        async with opened() as objects:
            watches = Watches(objects.store, 1)
            watches._open.add(watcher())
            with pytest.raises(StatusError) as refused:
                await watches.serve(None, Call(Target(KIND, ""), "watch", {}, PLAIN))  # type: ignore[arg-type]
            assert (refused.value.code, refused.value.retry_after) == (429, 1)

    asyncio.run(main())
