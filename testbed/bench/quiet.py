"""Wait until a cluster's own processes have nothing to do: what programming stirs up must not be sampled."""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 0.5
"""Seconds over which processor time is counted."""

SHARE = 0.1
"""Of one CPU, that the whole cluster may use and still be called quiet."""


def settle(busy: Callable[[], float], deadline: float) -> float:
    """Wait until the cluster is quiet, at most `deadline` seconds. `busy`: its CPU seconds so far.

    Returns the share of a CPU used in the last window; more than SHARE means that it never was quiet.
    """
    end = time.monotonic() + deadline
    before, since = busy(), time.monotonic()
    while True:
        time.sleep(WINDOW)
        after, now = busy(), time.monotonic()
        share = (after - before) / (now - since)
        if share <= SHARE or now > end:
            return share
        before, since = after, now
