"""How samples, µs everywhere, are shown: as time or, under the instruction clock, as instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

INSTRUCTIONS = "instructions"
"""The environment of the instruction clock: a nanosecond of its time is one instruction."""


@dataclass(frozen=True)
class Unit:
    """The unit's name, and how a sample (µs) is written in it."""

    name: str
    shown: Callable[[float], str]
    axis: str
    """What the numbers of an axis in µs count."""


def micros(value: float) -> str:
    """Three significant digits, and never fewer than all whole µs: `9.87`, `98.7`, `1,234`."""
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def instructions(value: float) -> str:
    """`50,423`: one for each nanosecond."""
    return f"{value * 1e3:,.0f}"


TIME = Unit("µs", micros, "µs")
COUNT = Unit(INSTRUCTIONS, instructions, "thousand instructions")


def unit(environment: str) -> Unit:
    return COUNT if environment == INSTRUCTIONS else TIME
