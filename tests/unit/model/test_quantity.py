from __future__ import annotations

from decimal import Decimal

import pytest

from testbed.model.quantity import parse


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("100m", Decimal("0.1")),
        ("64Mi", 64 * 2**20),
        ("1.5k", 1500),
        ("2e3", 2000),
        ("1E", 10**18),
        (2, 2),
        ("5.", 5),
    ],
)
def test_amounts(text: str | int, amount: Decimal | int) -> None:
    assert parse(text) == amount


@pytest.mark.parametrize("text", ["", "x", "1mi", "1 Gi", "--1", "1KB"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse(text)
