"""Are the backends chosen with equal probability? Pearson's chi-square test."""

from __future__ import annotations

import math
from collections.abc import Sequence


def evenness(counts: Sequence[int]) -> float:
    """The probability that an even choice gives counts at least as uneven as these."""
    expected = sum(counts) / len(counts)
    statistic = sum((count - expected) ** 2 for count in counts) / expected
    return chi_square_tail(statistic, len(counts) - 1)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(X >= statistic) for a chi-square variable with `freedom` >= 1 degrees of freedom.

    Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1), from Q(1/2, x) = erfc(sqrt x) or Q(1, x) = e^-x
    (Abramowitz and Stegun 6.5.21, 26.4.4-5).
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    shape = 0.5 if freedom % 2 else 1.0
    tail = math.erfc(math.sqrt(half)) if freedom % 2 else math.exp(-half)
    while shape < freedom / 2:
        tail += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(tail, 1.0)
