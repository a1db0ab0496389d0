from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from testbed.controllers.queue import Queue


async def _run_until(queue: Queue, done: Callable[[], bool]) -> None:
    task = asyncio.create_task(queue.run())
    try:
        async with asyncio.timeout(5):
            while not done():
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _run(work: Callable[[str], Awaitable[None]], keys: list[str], done: Callable[[], bool]) -> None:
    async def main() -> None:
        queue = Queue("test", work)
        for key in keys:
            queue.add(key)
        await _run_until(queue, done)

    asyncio.run(main())


def test_a_key_added_twice_is_worked_on_once() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    _run(work, ["a", "a", "b"], lambda: len(seen) >= 2)
    assert sorted(seen) == ["a", "b"]


def test_a_failure_is_tried_again() -> None:
    tries: list[str] = []

    async def work(key: str) -> None:
        tries.append(key)
        if len(tries) < 3:
            raise ValueError("not yet")

    _run(work, ["a"], lambda: len(tries) >= 3)
    assert tries == ["a", "a", "a"]


def test_a_key_added_at_work_is_worked_on_again_but_never_by_two() -> None:
    at_work, most, count = 0, 0, 0

    async def main() -> None:
        nonlocal at_work, most, count

        async def work(key: str) -> None:
            nonlocal at_work, most, count
            at_work += 1
            most = max(most, at_work)
            if count == 0:
                queue.add(key)
            await asyncio.sleep(0.01)
            at_work -= 1
            count += 1

        queue = Queue("test", work)
        queue.add("a")
        await _run_until(queue, lambda: count == 2)

    asyncio.run(main())
    assert (most, count) == (1, 2)
