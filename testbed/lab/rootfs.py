"""A machine's root file system: the host's files, read through an overlay that keeps every change private."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import TestbedError
from testbed.kernel import cgroup
from testbed.kernel import namespaces as ns

OWN = ("proc", "sys", "run", "dev")
"""Directories of which a machine sees nothing of the host's."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kmsg", "kvm", "fuse", "net/tun")
LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}

ALTERNATIVES = "etc/alternatives"
IPTABLES_NAMES = ("iptables", "ip6tables")
IPTABLES_VARIANTS = ("nft", "legacy")


def enter_root(scratch: Path, shared: Path, logs: Path, group: Path | None = None) -> None:
    """Give the calling process (alone in a new mount namespace) a root of its own.

    `scratch` is an existing empty directory; a tmpfs over it takes all changes. `shared` stays the host's,
    and `logs` (the host's) becomes /var/log. /proc, /sys and /run are new; of control groups there are those
    below `group`, if any.
    """
    ns.make_private()
    outside = _mount_points()
    ns.mount("tmpfs", str(scratch), "tmpfs", ns.MS_NODEV | ns.MS_NOSUID, "mode=755")
    upper, work, new = (scratch / name for name in ("upper", "work", "root"))
    for made in (upper, work, new):
        made.mkdir()
    try:
        ns.mount("overlay", str(new), "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    except OSError as error:
        raise TestbedError(f"this kernel cannot overlay the root file system: {error}") from error
    for point in outside:
        if not _covered(point, (scratch, *(Path("/", name) for name in OWN))):
            target = new / point.relative_to("/")
            if target.exists():
                ns.bind(str(point), str(target), recursive=False)
    ns.bind(str(shared), str(new / shared.relative_to("/")), recursive=False)
    (new / "var/log").mkdir(parents=True, exist_ok=True)
    ns.bind(str(logs), str(new / "var/log"), recursive=False)
    for source, directory in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run")):
        options = "mode=755" if source == "tmpfs" else ""
        ns.mount(source, str(new / directory), source, ns.MS_NOSUID | ns.MS_NODEV, options)
    if group:
        ns.bind(str(group), str(new / cgroup.ROOT.relative_to("/")), recursive=False)
    _devices(new / "dev")
    _pivot(new)
    for path in ("/run/netns", "/run/lock"):
        Path(path).mkdir()


def _devices(directory: Path) -> None:
    """Devices that a program may expect, and room for those and for files that it makes."""
    ns.mount("tmpfs", str(directory), "tmpfs", ns.MS_NOSUID, "mode=755")
    for name in DEVICES:
        if Path("/dev", name).exists():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).touch()
            ns.bind(f"/dev/{name}", str(directory / name))
    for name, kind, options in (("pts", "devpts", "newinstance,ptmxmode=666,mode=620"), ("shm", "tmpfs", "")):
        (directory / name).mkdir()
        ns.mount(kind, str(directory / name), kind, ns.MS_NOSUID, options)
    for name, target in LINKS.items():
        (directory / name).symlink_to(target)


def _mount_points() -> list[Path]:
    """Where file systems are mounted, outer ones first (proc_pid_mountinfo(5))."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = dict.fromkeys(Path(_unescape(line.split()[4])) for line in lines)
    return [point for point in points if point != Path("/")]


def _unescape(text: str) -> str:
    return text.encode().decode("unicode_escape") if "\\" in text else text


def _covered(point: Path, parents: tuple[Path, ...]) -> bool:
    return any(point == parent or parent in point.parents for parent in parents)


def _pivot(new: Path) -> None:
    old = new / "run" / "oldroot"
    old.mkdir()
    os.chdir(new)
    ns.pivot_root(".", "run/oldroot")
    os.chdir("/")
    ns.unmount("/run/oldroot")
    Path("/run/oldroot").rmdir()


def write_identity(hostname: str, hosts: Sequence[tuple[str, str]]) -> None:
    """/etc/hostname, /etc/hosts (names and addresses) an empty resolv.conf, and no CNI networks."""
    _replace("/etc/hostname", hostname + "\n")
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {name}" for name, address in hosts]
    _replace("/etc/hosts", "\n".join(lines) + "\n")
    _replace("/etc/resolv.conf", "")
    shutil.rmtree("/etc/cni/net.d", ignore_errors=True)  # networks of the host's own container engine


def choose_iptables(variant: str, root: Path = Path("/")) -> None:
    """Make `iptables`, `iptables-restore`, … on PATH the given variant, nft or legacy.

    Works as Debian's update-alternatives does: by the links in /etc/alternatives, here those of the machine
    whose root directory `root` is. Raises TestbedError when the variant is not installed.
    """
    for name in IPTABLES_NAMES:
        for suffix in ("", "-save", "-restore"):
            program = Path(f"/usr/sbin/{name}-{variant}{suffix}")
            if not program.exists():
                raise TestbedError(f"{program} is missing; install iptables or choose the other variant")
            link = root / ALTERNATIVES / f"{name}{suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(program)


def _replace(path: str, text: str) -> None:
    target = Path(path)
    target.unlink(missing_ok=True)
    target.write_text(text)
