"""What a node runs, as archives ready to unpack there: the libraries from wheels, and this package.

A node needs neither network nor pip nor compiler. Libraries are fetched by the host for the node's own
Python, in the locked versions; the package is this one, as it is. Each archive holds one directory below
opt/testbed whose name changes with its content.
"""

from __future__ import annotations

import compileall
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from testbed.errors import TestbedError, UsageError
from testbed.vm import cache
from testbed.vm.image import PACKAGE

CHECKOUT = PACKAGE.parent
ROLE_DEFAULTS = CHECKOUT / "playbooks/roles/host/defaults/main.yml"
LOCK = CHECKOUT / "requirements.lock"
ROOT = "opt/testbed"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")


@dataclass(frozen=True)
class Archive:
    """A tar file whose one directory is `directory`, absolute on the node."""

    path: Path
    directory: str


def role() -> dict[str, list[str]]:
    """The defaults of the role `host`: what machines have. Raises UsageError outside a checkout."""
    if not ROLE_DEFAULTS.exists():
        raise UsageError("machines are made ready from a checkout of the project: run this from one")
    found: dict[str, list[str]] = yaml.safe_load(ROLE_DEFAULTS.read_text())
    return found


def libraries_key(python: str) -> str:
    """Changes with the locked versions, and with the Python that they are for."""
    text = "\n".join([python, *role()["host_node_libraries"], LOCK.read_text()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def libraries(python: str) -> Archive:
    """The libraries for nodes with Python `python` ("3.11"), from the cache or fetched."""
    name = f"libraries-{libraries_key(python)}"

    def make(target: Path) -> None:
        tree = target.with_name(name)
        _install(python, tree)
        _pack(tree, name, target, python)

    path = cache.made(cache.directory() / "bundle" / f"{name}.tar.gz", make)
    return Archive(path, f"/{ROOT}/{name}")


def project(python: str) -> Archive:
    """This package, for nodes with Python `python`."""
    files = list(_sources())
    digest = hashlib.sha256(python.encode())
    for file in files:
        digest.update(f"{file.relative_to(PACKAGE)}\0".encode() + file.read_bytes())
    name = f"project-{digest.hexdigest()[:12]}"

    def make(target: Path) -> None:
        tree = target.with_name(name)
        for file in files:
            copy = tree / "testbed" / file.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        _pack(tree, name, target, python)

    path = cache.made(cache.directory() / "bundle" / f"{name}.tar.gz", make)
    cache.keep_newest("bundle/project-*.tar.gz", 3)
    return Archive(path, f"/{ROOT}/{name}")


def unpack(archive: Archive, root: Path) -> None:
    """Into a root directory."""
    with tarfile.open(archive.path) as file:
        file.extractall(root, filter="tar")


def version_in(root: Path) -> str:
    """The version of the Python that is installed in a root directory: "3.11"."""
    target = (root / "usr/bin/python3").readlink().name
    match = re.fullmatch(r"python(3\.\d+)", target)
    if not match:
        raise TestbedError(f"{root}/usr/bin/python3 is {target}: no Python 3 with a version")
    return match[1]


def _sources() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield path


def _install(python: str, tree: Path) -> None:
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
        f"--target={tree}", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp",
        *platforms, f"--constraint={LOCK}", *role()["host_node_libraries"],
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no reason given"]
        raise TestbedError(f"cannot fetch the nodes' libraries for Python {python}: {words[-1]}")


def _pack(tree: Path, name: str, target: Path, python: str) -> None:
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        # Compiled here, since an emulated node takes minutes for it; elsewhere a node does it as it goes.
        compileall.compile_dir(tree, quiet=2, ddir=f"/{ROOT}/{name}", workers=0)
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        archive.add(tree, f"{ROOT}/{name}", filter=_of_root)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
