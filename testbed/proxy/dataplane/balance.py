"""Which endpoint gets the next client: round robin, with ClientIP affinity if asked."""

from __future__ import annotations

import time
from collections.abc import Callable

Address = tuple[str, int]


class Balancer:
    """The endpoints of one listener."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._endpoints: tuple[Address, ...] = ()
        self._next = 0
        self._affinity = 0.0
        self._chosen: dict[str, tuple[Address, float]] = {}

    def update(self, endpoints: tuple[Address, ...], affinity: float) -> None:
        """New endpoints; clients keep theirs while it is still one. `affinity` in seconds, 0: none."""
        self._endpoints = endpoints
        self._affinity = affinity
        self._chosen = {
            client: choice for client, choice in self._chosen.items() if affinity and choice[0] in endpoints
        }

    def pick(self, client: str, *, fresh: bool = False) -> Address | None:
        """The endpoint for `client`; with `fresh`, another than last time, for that one did not answer."""
        if not self._endpoints:
            return None
        now = self._clock()
        held = self._chosen.get(client) if self._affinity else None
        if held and not fresh and now - held[1] < self._affinity:
            chosen = held[0]
        else:
            chosen = self._endpoints[self._next % len(self._endpoints)]
            self._next += 1
        if self._affinity:
            self._chosen[client] = (chosen, now)
        return chosen

    def expire(self) -> None:
        """Forget clients whose affinity has ended."""
        if self._chosen:
            limit = self._clock() - self._affinity
            self._chosen = {c: choice for c, choice in self._chosen.items() if choice[1] >= limit}

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._endpoints
