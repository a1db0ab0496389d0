"""The chi-square test: known quantiles, and what it can and cannot tell apart."""

from __future__ import annotations

import pytest

from testbed.model.rows import ERROR_RATE, SPREAD
from testbed.packets.distribution import chi_square_tail, evenness


# Abramowitz and Stegun, table 26.8; and the 1e-6 quantile of two degrees of freedom, -2 ln 1e-6
@pytest.mark.parametrize(
    ("statistic", "freedom", "tail"),
    [
        (3.841459, 1, 0.05),
        (5.991465, 2, 0.05),
        (7.814728, 3, 0.05),
        (9.487729, 4, 0.05),
        (18.307038, 10, 0.05),
        (24.995790, 15, 0.05),
        (27.631021, 2, 1e-6),
        (0.0, 2, 1.0),
    ],
)
def test_quantiles(statistic: float, freedom: int, tail: float) -> None:
    assert chi_square_tail(statistic, freedom) == pytest.approx(tail, rel=1e-5)


def test_round_robin_is_even() -> None:
    assert evenness([134, 133, 133]) > 0.99


@pytest.mark.parametrize(
    "shares", [(1, 0, 0), (1 / 2, 1 / 2, 0), (1 / 2, 1 / 4, 1 / 4), (1 / 3, 2 / 9, 4 / 9)]
)
def test_a_wrong_probability_is_told_apart(shares: tuple[float, ...]) -> None:
    """What a proxy would do with a missing backend, or with `statistic` probabilities out of order."""
    typical = [round(SPREAD * share) for share in shares]
    assert evenness(typical) < ERROR_RATE * 100
    assert evenness([3 * count for count in typical]) < ERROR_RATE


def test_ordinary_noise_is_not_blamed() -> None:
    assert evenness([150, 120, 130]) > 0.1
