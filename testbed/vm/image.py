"""Images of the file trees Python reads, so that the guest need not fetch each module's files over 9p.

Over 9p every stat, open and read is a round trip to the host: importing scapy takes 12 s under emulation. A
squashfs image on a virtio disk is read in blocks and cached by the guest's kernel. It is not compressed:
the emulated CPU would pay for that.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import testbed
from testbed.errors import TestbedError
from testbed.vm import cache

# Parts of the standard library that the guest does without: 100 MB of tests, and packages of nobody's
# concern.
UNNEEDED = ("test", "idlelib", "tkinter", "ensurepip", "site-packages", "dist-packages")
PACKAGE = Path(testbed.__file__).resolve().parent


def interpreter_trees() -> list[Path]:
    """The running interpreter: its program and library, its standard library, its site-packages."""
    stdlib = Path(sysconfig.get_paths()["stdlib"]).resolve()
    program = Path(sys.executable).resolve()
    library = Path(sys.base_prefix) / "lib" / (sysconfig.get_config_var("LDLIBRARY") or "-")
    packages = (Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    trees = [stdlib, program, library.resolve(), *(entry.resolve() for entry in packages)]
    return [tree for tree in dict.fromkeys(trees) if tree.exists()]


def images() -> list[tuple[Path, list[Path]]]:
    """(image, the paths it holds) for the interpreter and for this package, from the cache or made.

    Two, because the package changes with each edit while the interpreter stays.
    """
    wanted = {"python": interpreter_trees(), "testbed": [PACKAGE]}
    found = [(_image(kind, trees), trees) for kind, trees in wanted.items()]
    for kind in wanted:
        cache.keep_newest(f"image/{kind}-*", 2)
    return found


def _image(kind: str, trees: Sequence[Path]) -> Path:
    path = cache.directory() / "image" / f"{kind}-{_key(trees)}.squashfs"
    cache.made(path, lambda target: _squash(trees, target))
    os.utime(path)
    return path


def _key(trees: Sequence[Path]) -> str:
    """A key that changes with any file's path, size or time of change; compiled files don't count."""
    skipped = _skipped(trees)
    digest = hashlib.sha256(repr(sorted(skipped)).encode())
    for tree in trees:
        for name, status in _files(tree, skipped):
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _skipped(trees: Sequence[Path]) -> set[str]:
    return {f"{tree}/{name}" for tree in trees for name in UNNEEDED} - {str(tree) for tree in trees}


def _files(tree: Path, skipped: set[str]) -> Iterator[tuple[str, os.stat_result]]:
    if tree.is_file():
        yield str(tree), tree.stat()
        return
    for entry in os.scandir(tree):
        if entry.path in skipped or entry.name == "__pycache__":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), skipped)
        elif not entry.name.endswith(".pyc"):
            yield entry.path, entry.stat(follow_symlinks=False)


def _squash(trees: Sequence[Path], target: Path) -> None:
    for tree in trees:
        # In the guest nothing can be written beside a module: it would be compiled anew by each process.
        if tree == PACKAGE or tree.is_relative_to(sys.prefix):
            compileall.compile_dir(tree, quiet=2)
    unneeded = [f"--exclude={path}" for path in _skipped(trees)]
    with subprocess.Popen(["tar", "-cP", "--anchored", *unneeded, *trees], stdout=subprocess.PIPE) as archive:
        plain = ["-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-no-progress", "-quiet"]
        done = subprocess.run(
            ["mksquashfs", "-", target, "-tar", *plain],
            stdin=archive.stdout,
            capture_output=True,
            check=False,
        )
    if done.returncode or archive.returncode:
        raise TestbedError(f"cannot make {target.name}: {done.stderr.decode().strip()}")
