"""Sockets of another network namespace in this process: a socket stays in the one that it was made in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.kernel.namespaces import enter, setns


@contextmanager
def inside(netns: str | Path) -> Iterator[None]:
    """The calling thread in the network namespace whose file is `netns`; back in its own afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(netns)
        try:
            yield
        finally:
            setns(home, "net")
    finally:
        os.close(home)
