"""Control groups, version 2: limits for processes together (Documentation/admin-guide/cgroup-v2.rst).

A group is a directory below ROOT. What the root hands down to its children is the machine's to say: it is
used as it is found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory", "pids")
HANDED_DOWN = "cgroup.subtree_control"


def usable() -> bool:
    """Whether groups with limits can be made here."""
    try:
        on = (ROOT / HANDED_DOWN).read_text().split()
    except OSError:
        return False
    return set(CONTROLLERS) <= set(on) and os.access(ROOT, os.W_OK)


def branch(group: Path) -> None:
    """Make a group for further groups, not for processes, and those above it. Twice does no harm."""
    if group == ROOT:
        return
    branch(group.parent)
    group.mkdir(exist_ok=True)
    (group / HANDED_DOWN).write_text(" ".join(f"+{each}" for each in CONTROLLERS))


def make(group: Path, limits: Mapping[str, str]) -> None:
    """Make a group for processes. `limits`: files and what is written into them, `{"pids.max": "100"}`."""
    branch(group.parent)
    group.mkdir(exist_ok=True)
    for name, value in limits.items():
        with suppress(FileNotFoundError):  # memory.swap.max, on a kernel without swap
            (group / name).write_text(value)


def join(group: str) -> None:
    """The calling process and what it will fork. Raises OSError."""
    Path(group, "cgroup.procs").write_text("0")


def remove(group: Path) -> None:
    """With all below it, once no process is left in them; one that is in use stays. Nothing there is fine."""
    for directory, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(directory)


def oom_kills(group: Path) -> int:
    """Processes of the group that were killed because it had no memory left."""
    with suppress(OSError):
        for line in (group / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
