"""A clock that replays recorded samples, so that pytest-benchmark computes on figures taken interleaved.

pytest-benchmark runs one test to its end before the next; modes measured so would each get another minute
of the machine's mood. Here all modes were sampled together before, and a test plays its samples back: the
timer that pytest-benchmark reads stands still, and the function under test moves it on by one sample.
"""

from __future__ import annotations

from collections.abc import Iterable


class ReplayClock:
    """A timer (seconds) that moves only by `step`, by the next of `samples`.

    A round starts at 0, so that a sample comes back as it was recorded, not as a difference of sums.
    """

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._now = 0.0
        self._running = False

    def load(self, samples: Iterable[float]) -> None:
        """Replace what is to be replayed, seconds each."""
        self._samples = list(reversed(list(samples)))
        self._now, self._running = 0.0, False

    def __call__(self) -> float:
        """The timer: 0 at the start of a round, the sample in seconds at its end."""
        self._running = not self._running
        if self._running:
            self._now = 0.0
        return self._now

    def step(self) -> None:
        """One round of the benchmark. Raises IndexError when all samples were replayed."""
        self._now += self._samples.pop()


CLOCK = ReplayClock()
"""The one that benchmarks/ hands to pytest-benchmark; one test runs at a time."""
