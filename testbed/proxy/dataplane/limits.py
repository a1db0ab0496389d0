"""Room for the descriptors of a data plane: one a Service port, two to four a connection."""

from __future__ import annotations

import resource
from pathlib import Path

from testbed.errors import TestbedError


def raise_limits() -> None:
    """As many open files as the kernel grants this process and its children. Raises TestbedError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    for limit in ((most, most), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            return
        except (OSError, ValueError):
            continue
    raise TestbedError(f"cannot raise the limit of open files from {soft}")
