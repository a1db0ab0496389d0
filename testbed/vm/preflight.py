"""Whether this machine can carry the ones of a Vagrantfile: asked before the first is made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from testbed.errors import UsageError
from testbed.vm import provider

LIBVIRT, VIRTUALBOX = "libvirt", "virtualbox"
PROVIDERS = (LIBVIRT, VIRTUALBOX)
BESIDES = {"tcg": 180, "kvm": 60}
"""MiB of the host's memory that a machine takes beyond its own: QEMU, and what it has translated."""


def fits(kind: str, machines: int, memory: int, accelerator: str, meminfo: str = "") -> None:
    """Raises UsageError, with the remedy, when `machines` more of `memory` MiB all together cannot run here.

    `accelerator`: "kvm" or "tcg". `meminfo`: in place of what proc_meminfo(5) says.
    """
    if kind == VIRTUALBOX and shutil.which("VBoxManage") is None:
        raise UsageError("there is no VirtualBox: install it, or `vagrant up --provider=libvirt`")
    if kind == LIBVIRT and not provider.running():
        raise UsageError(
            "libvirt does not answer: as root, testbed vm provider up (systemctl start libvirtd)"
        )
    needed = memory + machines * BESIDES[accelerator]
    free = available(meminfo or Path("/proc/meminfo").read_text())
    if needed > free:
        raise UsageError(
            f"{machines} machines more take {needed:,} MiB of memory, and {free:,} are free: "
            "have fewer or smaller ones (TESTBED_NODES, TESTBED_MEMORY)"
        )


def available(meminfo: str) -> int:
    """MiB that new programs may take."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    return int(found[1]) // 1024 if found else 0
