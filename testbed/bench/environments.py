"""Where a run happens: on the fleet that is up; on the running kernel; in a VM when that lacks something."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from testbed import vm
from testbed.bench.columns import Column
from testbed.errors import UsageError
from testbed.kernel import features
from testbed.lab import fleet
from testbed.lab.fleet import Member
from testbed.proxy.modes import KERNEL_FEATURE

FLEET = "fleet"


def here() -> str:
    """The name of the environment that this process runs in."""
    return "vm" if vm.inside() else "native"


def machines(asked: str) -> tuple[list[Member], str]:
    """The nodes of the fleet that is to be measured; none, and why not: "" where there is nothing to say.

    Raises TestbedError when a fleet was asked for and does not answer, UsageError when there is none.
    """
    if asked == FLEET:
        return fleet.members(), ""
    if asked != "auto" or here() == "vm":
        return [], ""
    found, silent = fleet.standing()
    return found, f"there is a fleet, but this machine is measured: {silent}" if silent else ""


def lacking(columns: Iterable[Column]) -> dict[str, str]:
    """Column → the kernel feature its mode needs and the running kernel has not."""
    needed = {one.name: KERNEL_FEATURE[one.mode] for one in columns if one.mode in KERNEL_FEATURE}
    missing = features.missing(needed.values())
    return {name: feature for name, feature in needed.items() if feature in missing}


def choose(
    columns: Sequence[Column], asked: str, missing: Mapping[str, str]
) -> dict[str, tuple[Column, ...]]:
    """Environment → the columns measured there, in order of running.

    Modes are compared only inside one environment: if one mode has to move, all are measured in the VM, and
    those that the running kernel can do are measured on it besides, into a table of their own.
    `missing`: see `lacking`; UsageError when `asked` is "native" and something is.
    """
    every = tuple(columns)
    if asked == "vm" and here() != "vm":
        return {"vm": every}
    if not missing:
        return {here(): every}
    if asked == "native" or here() == "vm":
        raise UsageError(
            f"mode {', '.join(missing)} needs {', '.join(missing.values())}, which kernel "
            f"{platform.release()} lacks; use --env vm, or leave the mode out"
        )
    able = tuple(column for column in every if column.name not in missing)
    return {"native": able, "vm": every} if able else {"vm": every}


def facts() -> dict[str, str]:
    """What of this machine a figure depends on; the cluster adds its part."""
    cpu = _cpu()
    return {
        "engine": "QEMU" if here() == "vm" else "",
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": f"{cpu}, {os.cpu_count()} CPUs",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "Python": platform.python_version(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
