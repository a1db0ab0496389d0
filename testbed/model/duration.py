"""Durations as Kubernetes' flags take them."""

from __future__ import annotations

from testbed.errors import UsageError

_UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


def seconds(text: str) -> float:
    """`40s`, `1m`, `500ms` in seconds. Raises UsageError."""
    for unit, factor in _UNITS:
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise UsageError(f"{text!r} is not a duration such as 40s, 500ms or 1m")
