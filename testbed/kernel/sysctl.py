"""Kernel parameters of the namespaces that the calling process is in."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/proc/sys")


def get(name: str) -> str:
    """The value of `net.ipv4.ip_forward`, say. Raises FileNotFoundError when the kernel has no such key."""
    return _path(name).read_text().strip()


def put(name: str, value: str | int) -> None:
    """Set a parameter; nothing is written when it has that value already.

    Raises FileNotFoundError when the kernel has no such key, OSError when it refuses the value.
    """
    path = _path(name)
    if path.read_text().strip() != str(value):
        path.write_text(f"{value}\n")


def _path(name: str) -> Path:
    # sysctl(8): a slash stands for a dot inside a name, as in net.ipv4.conf.eth0/1.forwarding
    return ROOT / "/".join(part.replace("/", ".") for part in name.split("."))
