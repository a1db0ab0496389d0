"""A queue of keys to be worked on: each key once, never by two workers at a time, failures again later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from testbed.client import ApiError, Conflict, NotFound

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.02, 30.0
"""Seconds until a failed key is tried again; doubled with each failure in a row."""


class Queue:
    """`add` keys; `run` works on them. A key added while it is being worked on is worked on once more."""

    def __init__(self, name: str, work: Callable[[str], Awaitable[None]], workers: int = 8) -> None:
        self.name = name
        self._work = work
        self._workers = workers
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}

    def add(self, key: str, delay: float = 0.0) -> None:
        """Have `key` worked on, `delay` seconds from now."""
        if delay > 0:
            asyncio.get_running_loop().call_later(delay, self.add, key)
        elif key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.put_nowait(key)

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:
                self._later(key, error)
            self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _later(self, key: str, error: Exception) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_DELAY * 2**failures, LONGEST_DELAY)
        if isinstance(error, Conflict | NotFound):  # a race with another writer; the next round sees its work
            log.debug("%s %s: %s; again in %.2f s", self.name, key, error, delay)
        elif isinstance(error, ApiError):
            log.warning("%s %s: %s; again in %.2f s", self.name, key, error, delay)
        else:
            log.error("%s %s: again in %.2f s", self.name, key, delay, exc_info=error)
        self.add(key, delay)
