"""Units of samples: how they are shown, and as what pytest-benchmark gets them, which knows seconds only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

INSTRUCTIONS = "instructions"
"""The environment of the instruction clock: a nanosecond of its time is one instruction."""


def same(value: float) -> float:
    return value


def inverse(value: float) -> float:
    return 1 / value


@dataclass(frozen=True)
class Unit:
    """The unit's name, and how a sample is written in it.

    `seconds` turns a sample into what pytest-benchmark takes for a time, so that more is always worse;
    `value` turns it back. `axis`: what the numbers of an axis count. `better`: "less" or "more".
    """

    name: str
    shown: Callable[[float], str]
    axis: str
    seconds: Callable[[float], float] = same
    value: Callable[[float], float] = same
    better: str = "less"


def significant(value: float) -> str:
    """Three significant digits, and never fewer than all whole ones: `0.0123`, `9.87`, `98.7`, `1,234`."""
    if abs(value) < 0.9995:
        return f"{value:.3g}"
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def micros(value: float) -> str:
    """`0.05`, `9.87`, `98.7`, `1,234`."""
    return f"{value:.2f}" if value < 9.995 else significant(value)


def instructions(value: float) -> str:
    """`50,423`: one for each nanosecond."""
    return f"{value * 1e3:,.0f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def _micro(value: float) -> float:
    return value * 1e-6


def _from_micro(value: float) -> float:
    return value * 1e6


TIME = Unit("µs", micros, "µs", _micro, _from_micro)
COUNT = Unit(INSTRUCTIONS, instructions, "thousand instructions", _micro, _from_micro)
SECONDS = Unit("s", significant, "s")
MILLIS = Unit("ms", significant, "ms", lambda value: value * 1e-3, lambda value: value * 1e3)
RATE = Unit("1/s", whole, "per second", inverse, inverse, "more")
BITS = Unit("Gbit/s", significant, "Gbit/s", inverse, inverse, "more")
MEMORY = Unit("MiB", significant, "MiB")
SHARE = Unit("%", significant, "%")
CONNECTIONS = Unit("connections", whole, "connections", inverse, inverse, "more")
UNITS = {unit.name: unit for unit in (TIME, COUNT, SECONDS, MILLIS, RATE, BITS, MEMORY, SHARE, CONNECTIONS)}


def unit(environment: str, of: Unit = TIME) -> Unit:
    """The unit that samples of `of` are shown in: under the instruction clock a time is a count."""
    return COUNT if environment == INSTRUCTIONS and of is TIME else of
