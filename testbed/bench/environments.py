"""Where a run happens: on the running kernel, or in a VM when that kernel lacks what a mode needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from testbed import vm
from testbed.errors import UsageError
from testbed.kernel import features
from testbed.proxy.modes import KERNEL_FEATURE

CHOICES = ("auto", "native", "vm")


def here() -> str:
    """The name of the environment that this process runs in."""
    return "vm" if vm.inside() else "native"


def lacking(modes: Iterable[str]) -> dict[str, str]:
    """Mode → the kernel feature it needs and the running kernel has not."""
    needed = {mode: KERNEL_FEATURE[mode] for mode in modes if mode in KERNEL_FEATURE}
    missing = features.missing(needed.values())
    return {mode: feature for mode, feature in needed.items() if feature in missing}


def choose(modes: Sequence[str], asked: str, missing: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Environment → the modes measured there, in order of running.

    Modes are compared only inside one environment: if one mode has to move, all are measured in the VM, and
    those that the running kernel can do are measured on it besides, into a table of their own.
    `missing`: modes the running kernel cannot do; UsageError when `asked` is "native" and there are some.
    """
    missing = [mode for mode in modes if mode in set(missing)]
    if asked == "vm" and here() != "vm":
        return {"vm": tuple(modes)}
    if not missing:
        return {here(): tuple(modes)}
    if asked == "native" or here() == "vm":
        lacks = ", ".join(KERNEL_FEATURE.get(mode, mode) for mode in missing)
        raise UsageError(
            f"mode {', '.join(missing)} needs {lacks}, which kernel {platform.release()} lacks; "
            "use --env vm, or leave the mode out"
        )
    able = tuple(mode for mode in modes if mode not in missing)
    return {"native": able, "vm": tuple(modes)} if able else {"vm": tuple(modes)}


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
