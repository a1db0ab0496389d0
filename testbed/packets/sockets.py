"""Sockets of another network namespace in this process: a socket stays in the one that it was made in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from testbed.kernel.namespaces import enter, setns


def open_socket(netns: str | Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in the namespace whose file is `netns`; the calling thread is back in its own afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(netns)
        try:
            return socket.socket(family, kind, protocol)
        finally:
            setns(home, "net")
    finally:
        os.close(home)
