"""Where the VM's parts are kept between runs, and how each is made exactly once.

Root uses /var/cache/testbed, others ~/.cache/testbed; TESTBED_CACHE_DIR overrides both. Everything in it
can be deleted at any time: it is made again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def directory() -> Path:
    """The cache directory of this user; made when missing."""
    named = os.environ.get("TESTBED_CACHE_DIR")
    if named:
        path = Path(named)
    elif os.geteuid() == 0:
        path = Path("/var/cache/testbed")
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "testbed"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name`: two runs that need the same part make it once."""
    with (directory() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made by `make(temporary_path)` when it is missing; it appears complete or not at all.

    `temporary_path` does not exist when `make` is called; `make` creates a file or a directory there.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent.name):
        if path.exists():
            return path
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as room:
            unfinished = Path(room) / path.name
            make(unfinished)
            unfinished.rename(path)
    return path


def keep_newest(pattern: str, count: int) -> None:
    """Remove all but the `count` most recently used entries that match `pattern` in the cache directory."""
    entries = sorted(directory().glob(pattern), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[count:]:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


@contextmanager
def job_directory() -> Iterator[Path]:
    """A directory for one run of the VM, removed at its end.

    It is held by a lock, so that what a killed run left is told from a live one and swept by the next run.
    """
    jobs = directory() / "jobs"
    jobs.mkdir(exist_ok=True)
    with locked("jobs"):
        for old in jobs.iterdir():
            if not _held(old):
                shutil.rmtree(old, ignore_errors=True)
        job = Path(tempfile.mkdtemp(dir=jobs))
        handle = os.open(job, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield job
    finally:
        shutil.rmtree(job, ignore_errors=True)
        os.close(handle)


def _held(job: Path) -> bool:
    handle = os.open(job, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
