"""A Vagrant box from the distribution's own packages: no box site, no installer, the kernel booted directly.

The root file system is made by mmdebstrap and written into an image without being mounted. The kernel is the
one that `testbed vm run` boots too; it lies beside the image, with a first file system of a few hundred kB,
so that nothing has to be unpacked or found at boot. What a node runs besides is in the image already: a guest
needs no network but the one to its host.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError, UsageError
from testbed.vm import bundle, cache, initramfs, kernels

NAME = "testbed/node"
FILES = Path(__file__).parent / "box"

SYSTEM = (
    "systemd-sysv", "udev", "openssh-server", "sudo", "ca-certificates", "netbase", "iputils-ping",
)  # fmt: skip
"""Besides what the role `host` lists: what makes a machine out of a root directory.
Neither D-Bus nor PAM's systemd module: a login would start a second service manager, for seconds each."""

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "depmod": "kmod",
}
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
DISK = "8G"
LEAVE_OUT = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
    "/usr/share/lintian/*",
)  # fmt: skip

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Box:
    """A box file, and the kernel that is inside. `made`: it was not in the cache."""

    path: Path
    kernel: str
    made: bool


def build(progress: Progress = lambda _: None) -> Box:
    """The box for this distribution, from the cache or made. Raises UsageError when a program is missing."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise UsageError(f"a box is made with {program}: apt-get install {package}")
    kernel = kernels.default()
    path = cache.directory() / "box" / f"testbed-{_key(kernel)}.box"
    if path.exists():
        return Box(path, str(kernel), False)

    def make(target: Path) -> None:
        room = target.with_name("room")
        root = room / "root"
        room.mkdir()
        _bootstrap(root, progress)
        progress(f"kernel {kernel}, and Python packages")
        _furnish(root, kernel)
        progress("image")
        _pack(room, kernel, target)

    cache.made(path, make)
    cache.keep_newest("box/testbed-*.box", 1)
    return Box(path, str(kernel), True)


def packages() -> list[str]:
    """What is installed in the box, by name."""
    role = bundle.role()
    return sorted({*role["host_packages"], *role["host_node_packages"], *SYSTEM})


def _key(kernel: kernels.Kernel) -> str:
    """A key that changes with everything that a box is made from."""
    digest = hashlib.sha256(f"{kernel}{packages()}{DISK}{MODULES}{LEAVE_OUT}".encode())
    digest.update(bundle.libraries_key("").encode())
    for path in sorted(path for path in FILES.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _bootstrap(root: Path, progress: Progress) -> None:
    """A root directory with the packages, from the mirrors that this machine uses itself."""
    wanted = packages()
    progress(f"{len(wanted)} packages and what they need")
    command = [
        # What it mounts below the directory (the host's /proc, /sys) is seen by nobody else and ends with it.
        "unshare", "--mount", "--propagation=private", "--",
        "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(wanted)}",
        "--aptopt=Acquire::Languages none", "--aptopt=APT::Install-Recommends false",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEAVE_OUT),
        "--skip=check/empty", "--quiet", kernels.codename(), str(root),
    ]  # fmt: skip
    _run(command, "the packages")


def _furnish(root: Path, kernel: kernels.Kernel) -> None:
    modules = root / "usr/lib/modules" / kernel.version
    shutil.copytree(kernel.modules.resolve(), modules, symlinks=True)
    shutil.copytree(FILES / "root", root, dirs_exist_ok=True)
    bundle.unpack(bundle.libraries(bundle.version_in(root)), root)
    _run(["chroot", str(root), "sh", "/setup.sh"], "the box's set-up")
    (root / "setup.sh").unlink()


def _pack(room: Path, kernel: kernels.Kernel, target: Path) -> None:
    raw, image = room / "root.img", room / "box.img"
    (room / "root/home/vagrant/key").rename(room / "key")
    _run(
        ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(room / "root"), "-E", "lazy_itable_init=1",
         "-O", "^has_journal", str(raw), DISK],
        "the image",
    )  # fmt: skip
    shutil.rmtree(room / "root")
    _run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(image)], "the image")
    raw.unlink()
    shutil.copy(kernel.image, room / "vmlinux")
    init = initramfs.build(kernel, FILES / "init.sh", MODULES)
    shutil.copy(init, room / "initrd")
    for name in ("Vagrantfile", "qemu"):
        shutil.copy(FILES / name, room)
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": int(DISK.rstrip("G"))}
    (room / "metadata.json").write_text(json.dumps(metadata))
    with tarfile.open(target, "w") as archive:
        for name in ("metadata.json", "Vagrantfile", "key", "qemu", "vmlinux", "initrd", "box.img"):
            archive.add(room / name, name)
    shutil.rmtree(room)


def _run(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise TestbedError(f"{what} failed: {words[-1]}")
