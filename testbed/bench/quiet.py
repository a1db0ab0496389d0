"""Wait until a cluster's own processes have nothing to do: what programming stirs up must not be sampled."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

WINDOW = 0.5
"""Seconds over which processor time is counted."""

SHARE = 0.1
"""Of one CPU, that the whole cluster may use and still be called quiet."""


def cpu_seconds(roots: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Processor time used so far by the processes `roots` and all that live below them (proc(5), stat)."""
    used: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in brackets may hold anything; what follows the last bracket is fields 3 and up.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        pid = int(entry.name)
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(map(int, fields[11:15]))  # own and reaped children's, user and system
    total, waiting = 0, list(roots)
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0)
        waiting += children.get(pid, ())
    return total / os.sysconf("SC_CLK_TCK")


def settle(roots: Iterable[int], deadline: float) -> float:
    """Wait until the processes below `roots` are quiet over a window, at most `deadline` seconds.

    Returns the share of a CPU they used in the last window; more than SHARE means that they never were quiet.
    """
    roots = list(roots)
    end = time.monotonic() + deadline
    before, since = cpu_seconds(roots), time.monotonic()
    while True:
        time.sleep(WINDOW)
        after, now = cpu_seconds(roots), time.monotonic()
        share = (after - before) / (now - since)
        if share <= SHARE or now > end:
            return share
        before, since = after, now
