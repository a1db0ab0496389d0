"""Debian and Ubuntu packages fetched and unpacked into the cache, without being installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import TestbedError, UsageError


def depends(package: str) -> list[str]:
    """The names that `package` depends on directly; empty when apt does not know it."""
    if shutil.which("apt-cache") is None:
        raise UsageError("no apt here to fetch a kernel with: name one with --kernel PATH")
    done = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=False)
    return re.findall(r"^\s*\|?Depends: ([^<\s]\S*)", done.stdout, re.MULTILINE)


def unpack(names: Sequence[str], target: Path, *, exclude: Sequence[str] = ()) -> None:
    """Download the packages and unpack their files under `target`; `exclude` are tar's patterns.

    Raises TestbedError when apt cannot get them. A mirror forgets old versions, so root's second try follows
    an `apt-get update`.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as room:
        command = ["apt-get", "-qq", "download", *names]
        done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
        if done.returncode and os.geteuid() == 0:
            subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
            done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise TestbedError(
                f"cannot download {' '.join(names)} ({reason}): run apt-get update, or check the mirror"
            )
        for package in sorted(Path(room).glob("*.deb")):
            _extract(package, target, exclude)


def _extract(package: Path, target: Path, exclude: Sequence[str]) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        patterns = [f"--exclude={pattern}" for pattern in exclude]
        # Not the owners of the archive: the unpacking user may not be root.
        subprocess.run(
            ["tar", "-x", "--no-same-owner", "-C", target, *patterns], stdin=archive.stdout, check=True
        )
    if archive.returncode:
        raise TestbedError(f"{package.name} is damaged: remove it from the apt mirror's cache and try again")
