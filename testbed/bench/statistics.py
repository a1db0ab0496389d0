"""Percentiles, confidence intervals and distribution functions. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from operator import mul

SEED = 20260101
"""Fixed, so that the same samples always give the same interval."""

RESAMPLES = 1000
CONFIDENCE = 0.95
STEP = 32
"""Samples between two places at which a resample's weight is known without adding up."""
FEWEST = 10
"""Values that a series needs for its course to be judged."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval (`CONFIDENCE`)."""

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def enough(count: int, q: float) -> bool:
    """Whether `count` samples say anything of the `q` quantile: one at least must be expected beyond it.

    One sample is its own median.
    """
    tail = min(q, 1 - q)
    return count > 0 and (tail in (0, 0.5) or count * tail >= 1 - 1e-9)


def quantile(samples: Sequence[float], q: float) -> float:
    """The `q` quantile, 0 <= q <= 1, linear between order statistics (Hyndman and Fan's type 7).

    Raises ValueError when there are too few samples for it (see `enough`).
    """
    if not 0 <= q <= 1:
        raise ValueError(f"quantile {q} is not between 0 and 1")
    if not enough(len(samples), q):
        raise ValueError(f"{len(samples)} samples are too few for the {q:g} quantile")
    ordered = sorted(samples)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def median(samples: Sequence[float]) -> float:
    return quantile(samples, 0.5)


def ecdf(samples: Sequence[float]) -> list[tuple[float, float]]:
    """Points (value, share of samples <= value), rising, one for each distinct value."""
    ordered = sorted(samples)
    points: list[tuple[float, float]] = []
    for rank, value in enumerate(ordered, 1):
        if points and points[-1][0] == value:
            points.pop()
        points.append((value, rank / len(ordered)))
    return points


@dataclass(frozen=True)
class Resampled:
    """The median of the samples, and of each bootstrap resample of them."""

    median: float
    draws: tuple[float, ...]

    @property
    def positive(self) -> bool:
        """Whether one can divide by it."""
        return self.median > 0 and min(self.draws) > 0


def resample(
    samples: Sequence[float], blocks: Sequence[int], *, draws: int = RESAMPLES, seed: int = SEED
) -> Resampled:
    """Bootstrap the median by drawing whole blocks; sample i was taken in block `blocks[i]`.

    Drawing blocks keeps what a block has in common (a busy neighbour, a warm cache) together: samples taken
    within a few milliseconds of each other are not independent, and an interval that takes them to be so is
    too narrow. Two sets with the same blocks and the same seed get the same draws: they are paired.
    Raises ValueError when the lengths differ or there is nothing to draw.
    """
    if len(samples) != len(blocks):
        raise ValueError(f"{len(samples)} samples with {len(blocks)} block numbers")
    if not samples:
        raise ValueError("no samples to draw from")
    return _resampled(tuple(samples), tuple(blocks), draws, seed)


@lru_cache(maxsize=512)
def _resampled(samples: tuple[float, ...], blocks: tuple[int, ...], draws: int, seed: int) -> Resampled:
    place = {name: number for number, name in enumerate(sorted(set(blocks)))}
    ordered = [(value, place[block]) for value, block in sorted(zip(samples, blocks, strict=True))]
    counts = [0] * len(place)
    before = []  # of the first sample and each STEP later: how many of each block are smaller
    for rank, (_, block) in enumerate(ordered):
        if rank % STEP == 0:
            before.append(tuple(counts))
        counts[block] += 1
    medians = []
    for weights in _drawn(len(place), draws, seed):
        weighed = partial(_weighed, weights)
        half = (weighed(counts) + 1) // 2
        step = bisect_left(before, half, key=weighed) - 1
        rank, seen = step * STEP - 1, weighed(before[step])
        while seen < half:
            rank += 1
            seen += weights[ordered[rank][1]]
        medians.append(ordered[rank][0])
    return Resampled(median(samples), tuple(medians))


def _weighed(weights: Sequence[int], counts: Sequence[int]) -> int:
    """Of so many samples of each block, how many are in the resample."""
    return sum(map(mul, weights, counts))


@lru_cache(maxsize=8)
def _drawn(count: int, draws: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """How often each of `count` blocks is in each draw."""
    source = random.Random(seed)
    found = []
    for _ in range(draws):
        weights = [0] * count
        for number in source.choices(range(count), k=count):
            weights[number] += 1
        found.append(tuple(weights))
    return tuple(found)


def interval(of: Resampled) -> Interval:
    """The median and its interval."""
    return _interval(of.median, of.draws)


def ratio(top: Resampled, bottom: Resampled) -> Interval:
    """median(top) / median(bottom) and its interval.

    Paired when both were resampled with the same blocks and seed: what slowed a block of both then falls out
    of the ratio. For samples of different runs resample with two seeds.
    """
    quotients = tuple(a / b for a, b in zip(top.draws, bottom.draws, strict=True))
    return _interval(top.median / bottom.median, quotients)


def _interval(estimate: float, draws: Sequence[float]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    return Interval(estimate, quantile(draws, tail), quantile(draws, 1 - tail))


def warm_up(values: Sequence[float]) -> int:
    """How many values at the begin are not yet the steady state, half of them at most.

    The Marginal Standard Error Rule (White 1997): the truncation that makes the standard error of what is
    left smallest. Fewer than `FEWEST` values tell nothing, and none is taken away.
    """
    count = len(values)
    if count < FEWEST:
        return 0
    best, best_error = 0, float("inf")
    for start in range(count // 2 + 1):
        rest = values[start:]
        mean = sum(rest) / len(rest)
        error = sum((value - mean) ** 2 for value in rest) / len(rest) ** 2
        if error < best_error:
            best, best_error = start, error
    return best


@dataclass(frozen=True)
class Change:
    """A point at which a series changes its level: the first index of the new one, and both medians."""

    index: int
    before: float
    after: float


def change_point(values: Sequence[float], level: float = 0.001) -> Change | None:
    """Pettitt's test (1979) for one change of level anywhere in a series; None where p is above `level`."""
    count = len(values)
    if count < FEWEST:
        return None
    signs = [sum((b < a) - (b > a) for b in values) for a in values]
    rising = list(accumulate(signs))[:-1]
    index = max(range(len(rising)), key=lambda i: abs(rising[i]))
    p = 2 * math.exp(-6 * rising[index] ** 2 / (count**3 + count**2))
    if p > level:
        return None
    return Change(index + 1, median(values[: index + 1]), median(values[index + 1 :]))


def outliers(samples: Sequence[float]) -> int:
    """How many samples are far out: more than three interquartile ranges beyond a quartile (Tukey 1977)."""
    if not enough(len(samples), 0.25):
        return 0
    low, high = quantile(samples, 0.25), quantile(samples, 0.75)
    reach = 3 * (high - low)
    return sum(not low - reach <= value <= high + reach for value in samples)
