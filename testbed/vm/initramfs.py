"""The VM's first file system: busybox, the few modules that reach the host's files, and `guest/init`."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed.vm import cache, packages
from testbed.vm.kernels import Kernel

GUEST = Path(__file__).parent / "guest"
NEEDED = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "squashfs", "loop")


def build(kernel: Kernel, init: Path = GUEST / "init.sh", needed: Sequence[str] = NEEDED) -> Path:
    """The initramfs for `kernel` (a cpio archive) with the script `init`, which finds the modules `needed`
    under /modules; from the cache or made."""
    script = init.read_bytes()
    key = hashlib.sha256(script + kernel.version.encode() + ",".join(needed).encode()).hexdigest()[:16]
    path = cache.directory() / "initramfs" / f"{key}.cpio"

    def make(target: Path) -> None:
        target.write_bytes(_archive(kernel, script, needed))

    return cache.made(path, make)


def _archive(kernel: Kernel, script: bytes, needed: Sequence[str]) -> bytes:
    modules = list(_in_order(kernel.modules, needed))
    files = {"init": (0o755, script), "bin/busybox": (0o755, _busybox().read_bytes())}
    for module in modules:
        files[f"modules/{module.name.split('.')[0]}.ko"] = (0o644, _unpacked(module))
    files["modules/order"] = (0o644, "".join(f"{m.name.split('.')[0]}.ko\n" for m in modules).encode())
    folders = ("bin", "modules", "dev", "proc", "sys", "run", "lower", "overlay", "new")
    return cpio(files, folders)


def _busybox() -> Path:
    """A static busybox: the installed one, or one unpacked in the cache (its package clashes with
    `busybox`).
    """
    installed = shutil.which("busybox")
    if installed and b"/lib64/ld-linux" not in Path(installed).read_bytes()[:4096]:
        return Path(installed)
    root = cache.made(
        cache.directory() / "busybox" / "static", lambda target: packages.unpack(["busybox-static"], target)
    )
    return next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists())


def _in_order(modules: Path, needed: Sequence[str] = NEEDED) -> Iterator[Path]:
    """The files of the modules `needed` and what they depend on, each after its own dependencies, as
    modules.dep lists them.
    """
    lines = (line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    depends = {Path(name).name.split(".")[0].replace("-", "_"): (name, rest.split()) for name, rest in lines}
    seen: set[str] = set()
    for module in needed:
        if module not in depends:  # built into this kernel
            continue
        name, before = depends[module]
        for file in [*reversed(before), name]:
            if file not in seen:
                seen.add(file)
                yield modules / file


def _unpacked(module: Path) -> bytes:
    """The module itself; distributions pack them with xz or zstd, which the guest's insmod may not read."""
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", module], stdout=subprocess.PIPE, check=True).stdout
    return module.read_bytes()


def cpio(files: dict[str, tuple[int, bytes]], folders: tuple[str, ...] = ()) -> bytes:
    """An archive in the kernel's initramfs format, "newc"
    (Documentation/driver-api/early-userspace/buffer-format.rst).

    `files` maps a path to (permission bits, content).
    """
    parts: list[bytes] = []

    def add(inode: int, name: str, mode: int, content: bytes) -> None:
        encoded = name.encode() + b"\0"
        # inode mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
        numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        parts.extend([head, bytes(-len(head) % 4), content, bytes(-len(content) % 4)])

    entries = [(folder, 0o040755, b"") for folder in folders]
    entries += [(name, 0o100000 | mode, content) for name, (mode, content) in files.items()]
    for inode, (name, mode, content) in enumerate(entries, 1):
        add(inode, name, mode, content)
    add(0, "TRAILER!!!", 0, b"")
    return b"".join(parts)
