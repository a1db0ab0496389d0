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


class _Blocks:
    """Samples sorted once, each with its block, so that the median of a resample of blocks is a running sum.

    Drawing whole blocks keeps what a block has in common (a busy neighbour, a warm cache) together: samples
    taken within a few milliseconds of each other are not independent, and an interval that takes them
    to be so is too narrow.
    """

    def __init__(self, samples: Sequence[float], blocks: Sequence[int]) -> None:
        if len(samples) != len(blocks):
            raise ValueError(f"{len(samples)} samples with {len(blocks)} block numbers")
        pairs = sorted(zip(samples, blocks, strict=True))
        self.values = [value for value, _ in pairs]
        self.blocks = [block for _, block in pairs]

    def median(self, weights: dict[int, int]) -> float:
        """The median when the samples of block b are taken `weights[b]` times."""
        running = list(accumulate(weights.get(block, 0) for block in self.blocks))
        if not running or running[-1] == 0:
            raise ValueError("no samples in the blocks drawn")
        return self.values[bisect_left(running, (running[-1] + 1) // 2)]


def _draws(names: Sequence[int], resamples: int) -> list[dict[int, int]]:
    source = random.Random(SEED)
    draws = []
    for _ in range(resamples):
        weights: dict[int, int] = {}
        for name in source.choices(names, k=len(names)):
            weights[name] = weights.get(name, 0) + 1
        draws.append(weights)
    return draws


def _interval(estimate: float, resampled: list[float]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    return Interval(estimate, quantile(resampled, tail), quantile(resampled, 1 - tail))


def median_interval(samples: Sequence[float], blocks: Sequence[int], resamples: int = RESAMPLES) -> Interval:
    """The median and its bootstrap interval; blocks are resampled, not samples."""
    own = _Blocks(samples, blocks)
    draws = _draws(sorted(set(blocks)), resamples)
    return _interval(median(samples), [own.median(weights) for weights in draws])


def ratio_interval(
    samples: Sequence[float],
    blocks: Sequence[int],
    base: Sequence[float],
    base_blocks: Sequence[int],
    *,
    paired: bool = True,
    resamples: int = RESAMPLES,
) -> Interval:
    """median(samples) / median(base) and its bootstrap interval.

    `paired`: both were taken interleaved in the same blocks, so a block is drawn for both at once and what
    slowed both falls out of the ratio. Otherwise (two runs compared) each side draws its own.
    """
    top, bottom = _Blocks(samples, blocks), _Blocks(base, base_blocks)
    if paired:
        names = sorted(set(blocks) & set(base_blocks))
        top_draws = bottom_draws = _draws(names, resamples)
    else:
        top_draws = _draws(sorted(set(blocks)), resamples)
        bottom_draws = _draws(sorted(set(base_blocks)), resamples)
        random.Random(SEED + 1).shuffle(bottom_draws)
    resampled = [
        top.median(one) / bottom.median(other) for one, other in zip(top_draws, bottom_draws, strict=True)
    ]
    return _interval(median(samples) / median(base), resampled)
