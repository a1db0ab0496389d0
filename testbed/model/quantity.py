"""Amounts as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2e3` (apimachinery pkg/api/resource)."""

from __future__ import annotations

import re
from decimal import Decimal

SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}
NUMBER = re.compile(r"([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+\.)([numkMGTPE]?i?)")


def parse(text: str | int | float) -> Decimal:
    """The amount as a number: bytes, cores, pieces. Raises ValueError."""
    match = re.fullmatch(
        r"([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[+-]?[0-9]+\.)([numkMGTPE]?i?)", str(text)
    )
    if not match or match[2] not in SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(match[1]) * SUFFIXES[match[2]]
