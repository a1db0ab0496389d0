"""Durations as Kubernetes' flags take them."""

from __future__ import annotations

import re

from testbed.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration as Go writes it (40s, 500ms, 1m30s), in seconds. Raises UsageError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise UsageError(f"{text!r} is not a duration; write it like 40s, 500ms or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
