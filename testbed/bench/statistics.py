"""Percentiles, confidence intervals and distribution functions. Pure: numbers in, numbers out."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

SEED = 20260101
"""Fixed, so that the same samples always give the same interval."""

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval (`CONFIDENCE`)."""

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def enough(count: int, q: float) -> bool:
    """Whether `count` samples say anything of the `q` quantile: one at least must be expected beyond it."""
    tail = min(q, 1 - q)
    return count > 0 and (tail <= 0 or count * tail >= 1 - 1e-9)


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
    ordered = sorted(zip(samples, blocks, strict=True))
    names = sorted(set(blocks))
    source = random.Random(seed)
    medians = []
    for _ in range(draws):
        weights = dict.fromkeys(names, 0)
        for name in source.choices(names, k=len(names)):
            weights[name] += 1
        running = list(accumulate(weights[block] for _, block in ordered))
        medians.append(ordered[bisect_left(running, (running[-1] + 1) // 2)][0])
    return Resampled(median(samples), tuple(medians))


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
