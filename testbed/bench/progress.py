"""How far a run is and how long it will still take, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

EVERY = 5.0
"""Seconds between two lines that say nothing new but the time left."""


def _stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Progress:
    """`total` is the work to come, in seconds as guessed for this kind of machine.

    The time left is what is still to be done, stretched by how the work done so far compared to its guess.
    """

    def __init__(
        self,
        name: str,
        total: float,
        say: Callable[[str], None] = _stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total = name, total
        self._say, self._clock = say, clock
        self._started = self._said = clock()
        self._done = 0.0

    def step(self, text: str) -> None:
        """A new stage begins; said at once."""
        self._said = self._clock()
        self._say(f"{self._name}: {text}{self._left()}")

    def advance(self, work: float, text: str = "") -> None:
        """`work` of the total is done; with a `text`, said when the last line is `EVERY` seconds old."""
        self._done += work
        if text and self._clock() - self._said >= EVERY:
            self.step(text)

    def _left(self) -> str:
        elapsed = self._clock() - self._started
        if self._done <= 0 or elapsed <= 0:
            return ""
        left = elapsed * max(0.0, self._total - self._done) / self._done
        return f" (about {left:.0f} s left)"
