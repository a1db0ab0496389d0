"""Wait until a cluster's own processes have nothing to do: what programming stirs up must not be sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

WINDOW = 0.5
"""Seconds over which processor time is counted."""

SHARE = 0.1
"""Of one CPU, that the whole cluster may use and still be called quiet."""

AT_REST = 0.6
"""Of one CPU, that a cluster at rest may use where code is translated: what takes 2 % of one elsewhere."""

SPAN = 8
"""Windows over which it must not have become quieter to be called at rest."""


def settle(busy: Callable[[], float], deadline: float) -> float:
    """Wait until the cluster is quiet or at rest, at most `deadline` seconds. `busy`: its CPU seconds so far.

    Returns the share of a CPU used in the last window; more than SHARE means that it never was quiet.
    """
    shares: list[float] = []
    end = time.monotonic() + deadline
    before, since = busy(), time.monotonic()
    while True:
        time.sleep(WINDOW)
        after, now = busy(), time.monotonic()
        share = (after - before) / (now - since)
        shares.append(share)
        if share <= SHARE or at_rest(shares) or now > end:
            return share
        before, since = after, now


def at_rest(shares: Sequence[float]) -> bool:
    """Whether the cluster uses little, and has not used less for a while. `shares`: of the windows so far."""
    former, latter = sum(shares[-2 * SPAN : -SPAN]) / SPAN, sum(shares[-SPAN:]) / SPAN
    return len(shares) >= 2 * SPAN and latter <= AT_REST and latter >= 0.8 * former
