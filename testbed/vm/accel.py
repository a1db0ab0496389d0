"""Does KVM work here? Asked by booting, because a /dev/kvm that opens may still hang at the first
instruction.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from testbed.vm import cache

BOOT = 10.0  # s; a boot with KVM takes one
MARK = "testbed: this CPU runs"  # printed by guest/init.sh when asked to say so


def tried(command: list[str], console: Path) -> bool:
    """True when the machine of QEMU's `command` comes up and prints MARK to `console` in time."""
    words = ["setpriv", "--pdeathsig", "KILL", *command]
    try:
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT, check=False)
    except subprocess.TimeoutExpired:
        return False
    return console.exists() and MARK in console.read_text(errors="replace")


def remembered(name: str) -> Path:
    """The file that holds the answer for `name` until the next boot of the host (its BIOS may change
    there).
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    key = hashlib.sha256(f"{boot}{os.uname().release}{os.geteuid()}".encode()).hexdigest()[:12]
    return cache.directory() / "accel" / f"{name}-{key}"
