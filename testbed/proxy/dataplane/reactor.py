"""An epoll loop for thousands of sockets: level-triggered, one callback a descriptor, one timer."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

IN, OUT, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
TICK = 0.1
"""Seconds between two looks at the time limits."""

Callback = Callable[[int], None]


class Reactor:
    """Calls back with the event mask. Callbacks must not block and must not raise."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._ticks: list[Callable[[float], None]] = []
        self._removed: set[int] = set()
        """In this round of events: what is still told of them concerns sockets that are closed."""
        self.running = True

    def add(self, fd: int, mask: int, callback: Callback) -> None:
        self._callbacks[fd] = callback
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def redirect(self, fd: int, mask: int, callback: Callback) -> None:
        """Another callback for a descriptor that is being watched."""
        self._callbacks[fd] = callback
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Before the descriptor is closed: its number may be given out again at once."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._removed.add(fd)

    def every_tick(self, callback: Callable[[float], None]) -> None:
        """Call with the monotonic time every TICK seconds."""
        self._ticks.append(callback)

    def run(self) -> None:
        next_tick = time.monotonic() + TICK
        while self.running:
            self._removed.clear()
            for fd, mask in self._epoll.poll(max(0.0, next_tick - time.monotonic())):
                if fd not in self._removed:  # if it is another's now, epoll tells of that in the next round
                    self._callbacks[fd](mask)
            now = time.monotonic()
            if now >= next_tick:
                for tick in self._ticks:
                    tick(now)
                next_tick = now + TICK
