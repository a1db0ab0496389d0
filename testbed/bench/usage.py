"""What processes use, from proc(5)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from testbed.bench.place import Usage

PAGE = os.sysconf("SC_PAGE_SIZE")


def usage(roots: Iterable[int], proc: Path = Path("/proc")) -> Usage:
    """CPU and memory of the processes `roots` and all that live below them."""
    used: dict[int, Usage] = {}
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
        # utime, stime and those of reaped children; rss in pages
        ticks = sum(map(int, fields[11:15]))
        used[pid] = Usage(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * PAGE)
    total, waiting = Usage(0.0, 0), list(roots)
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, Usage(0.0, 0))
        waiting += children.get(pid, ())
    return total
