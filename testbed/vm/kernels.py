"""Kernels for the VM: the distribution's generic image, fetched and unpacked, or one the user names."""

from __future__ import annotations

import gzip
import lzma
import platform
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError, UsageError
from testbed.vm import cache, packages

# Meta packages whose dependencies name the current generic image, in the order of trial.
META_PACKAGES = ("linux-image-amd64", "linux-image-generic")

# Modules no service network needs; leaving them out makes the unpacking three times as fast.
UNNEEDED = tuple(
    f"*/kernel/{part}/*"
    for part in (
        "sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/scsi", "drivers/staging",
        "drivers/usb", "drivers/iio", "drivers/input", "drivers/hwmon", "drivers/net/wireless",
        "drivers/net/ethernet", "drivers/video", "drivers/platform", "drivers/mtd", "drivers/isdn",
        "arch/x86/kvm",
    )
)  # fmt: skip

DECOMPRESSORS = (
    (b"\xfd7zXZ\x00", lzma.decompress),
    (b"\x1f\x8b", gzip.decompress),
    (b"\x28\xb5\x2f\xfd", lambda data: _piped(["zstd", "-dcq"], data)),
    (b"\x02\x21\x4c\x18", lambda data: _piped(["lz4", "-dcq"], data)),
)


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel: `image` is an ELF vmlinux or a bzImage, `modules` its /lib/modules/VERSION."""

    version: str
    image: Path
    modules: Path
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} {self.version}"


def default() -> Kernel:
    """The distribution's current generic kernel, downloaded on first use (about 70 MB) and kept in the
    cache.
    """
    return _open(cache.made(cache.directory() / "kernel" / "generic", _fetch), _distribution())


def named(path: Path) -> Kernel:
    """The kernel at `path` (a vmlinuz), its modules beside it as in a root file system, or the host's."""
    if not path.is_file():
        raise UsageError(f"no kernel at {path}: name a vmlinuz file")
    version = _version(path.read_bytes()[:0x10000])
    for root in (path.resolve().parent.parent, Path("/usr"), Path("/")):
        modules = root / "lib/modules" / version
        if modules.is_dir():
            if not (modules / "modules.dep").exists():
                _depmod(root, version)
            return Kernel(version, path, modules, "kernel")
    raise UsageError(
        f"no modules for {path}: unpack the kernel's package so that lib/modules/{version} lies beside boot/"
    )


def _distribution() -> str:
    return platform.freedesktop_os_release()["NAME"].split()[0]


def codename() -> str:
    """The release of the distribution that the default kernel is from, as its mirrors name it: bookworm."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") or release["UBUNTU_CODENAME"]


def _open(root: Path, origin: str) -> Kernel:
    image = root / "vmlinux"
    version = (root / "version").read_text().strip()
    return Kernel(version, image, root / "lib/modules" / version, origin)


def _fetch(root: Path) -> None:
    packages.unpack(_names(), root, exclude=UNNEEDED)
    if (root / "usr/lib/modules").is_dir() and not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if not images:
        raise TestbedError("the kernel package holds no boot/vmlinuz-*: name a kernel with --kernel PATH")
    packed = images[-1].read_bytes()
    version = _version(packed)
    (root / "version").write_text(version)
    # An unpacked ELF image boots through PVH; under emulation, unpacking it at each boot would take 2 s.
    (root / "vmlinux").write_bytes(_vmlinux(packed))
    _depmod(root, version)


def _names() -> list[str]:
    """The packages of the generic kernel. Ubuntu keeps modules in packages of their own, Debian does not."""
    wanted = re.compile(r"linux-(image|modules|modules-extra)-\d")
    for meta in META_PACKAGES:
        names: list[str] = []
        queue = packages.depends(meta)
        while queue:
            name = queue.pop(0)
            if wanted.match(name) and name not in names:
                names.append(name)
                queue += packages.depends(name)
        if names:
            return names
    raise TestbedError(
        f"apt knows none of {', '.join(META_PACKAGES)}: run apt-get update, or name a kernel with --kernel"
    )


def _version(image: bytes) -> str:
    """The release of a bzImage, from its setup header (Documentation/arch/x86/boot.rst, kernel_version)."""
    if image[0x202:0x206] != b"HdrS":
        raise UsageError("this is no x86 bzImage kernel: name a vmlinuz file")
    offset = struct.unpack_from("<H", image, 0x20E)[0] + 0x200
    return image[offset : image.index(b"\0", offset)].split()[0].decode()


def _vmlinux(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage (boot.rst: payload_offset counts from the protected-mode code)."""
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in DECOMPRESSORS:
        if payload.startswith(magic):
            # The last four bytes are the unpacked size, appended by the kernel's build.
            return unpack(payload[:-4])
    return image


def _piped(command: list[str], data: bytes) -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def _depmod(root: Path, version: str) -> None:
    # modules.dep is made at installation, which we don't do.
    subprocess.run(["depmod", "-b", root, version], check=True)
