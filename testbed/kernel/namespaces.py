"""Namespaces and mounts by their system calls: unshare(2), setns(2), mount(2), pivot_root(2), prctl(2).

Python 3.11 has none of these; ctypes keeps it to a few lines and needs no child process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = {
    "mnt": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
"""Namespace kinds, as named in /proc/PID/ns, with their CLONE_NEW* flags (sched.h)."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SYS_PIVOT_ROOT = 155  # x86_64
if os.uname().machine == "aarch64":
    SYS_PIVOT_ROOT = 41

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def unshare(kinds: Iterable[str]) -> None:
    """Move the calling process into new namespaces of these kinds (for `pid`: its next child)."""
    flags = sum(KINDS[kind] for kind in kinds)
    _check(_libc.unshare(flags), f"unshare {' '.join(kinds)}")


def enter(where: int | str | Path, kinds: Iterable[str] = ("net",)) -> None:
    """Move the calling thread into existing namespaces.

    `where` is a process id (with the kinds wanted), or the path of one namespace file.
    Raises OSError when it is gone or permission is missing.
    """
    for kind in kinds:
        path = f"/proc/{where}/ns/{kind}" if isinstance(where, int) else str(where)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(descriptor, kind)
        finally:
            os.close(descriptor)


def setns(descriptor: int, kind: str) -> None:
    """setns(2) on an open namespace file."""
    _check(_libc.setns(descriptor, KINDS[kind]), f"setns {kind}")


@contextmanager
def inside(netns: str | Path) -> Iterator[None]:
    """The calling thread in the network namespace whose file is `netns`; back in its own afterwards.

    A socket stays in the namespace that it was made in.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(netns)
        try:
            yield
        finally:
            setns(home, "net")
    finally:
        os.close(home)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming source and target."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None
    )
    _check(result, f"mount {kind or 'bind'} {source} on {target}")


def bind(source: str, target: str, *, readonly: bool = False, recursive: bool = True) -> None:
    """Bind `source` over `target`."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if readonly:
        mount(source, target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def make_private() -> None:
    """Keep every mount made from here on inside this mount namespace."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def unmount(target: str) -> None:
    """umount2(2), lazily: open files keep working."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): `new_root` (a mount point) becomes `/`, the old root appears at `put_old` below it."""
    _check(_libc.syscall(SYS_PIVOT_ROOT, new_root.encode(), put_old.encode()), f"pivot_root {new_root}")


def die_with_parent(signum: int) -> None:
    """Have the kernel send `signum` to this process when the thread that made it ends (prctl(2))."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0), "prctl PDEATHSIG")


def adopt_orphans() -> None:
    """Make this process the parent of all orphans among its descendants (prctl(2))."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl CHILD_SUBREAPER")


def loopback_up() -> None:
    """Set `lo` up in the current network namespace (SIOCSIFFLAGS, netdevice(7))."""
    siocsifflags, up_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, siocsifflags, struct.pack("16sh14x", b"lo", up_running))
