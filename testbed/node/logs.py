"""The logs of containers: where they are, how much of them is kept, and how they are read.

A container writes to its log itself, so the log cannot be replaced by a new file under its hands. What is
too old is cut from the front of the same file: nothing is copied or lost, who follows it notices nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from testbed.kernel import sparse

log = logging.getLogger(__name__)
Object = dict[str, Any]

LOGS = Path("/var/log/pods")
CHECKED_EVERY, FOLLOW_EVERY = 1.0, 0.1
"""Seconds between looks at the sizes of all logs, and at a log that is followed."""
CHUNK = 1 << 16
BLOCK = 1 << 12


def log_directory(pod: Object) -> Path:
    """Of all containers; it goes with the Pod."""
    metadata = pod["metadata"]
    return LOGS / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def log_file(pod: Object, container: str, attempt: int) -> Path:
    return log_directory(pod) / container / f"{attempt}.log"


async def keep_short(kept: int, directory: Path = LOGS) -> None:
    """Have every log below `directory` take no more room than `kept` bytes, for ever."""
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(None, shorten_all, kept, directory)
        except OSError as error:
            log.warning("logs grow without limit: %s", error)
            return
        await asyncio.sleep(CHECKED_EVERY)


def shorten_all(kept: int, directory: Path) -> None:
    for file in directory.glob("*/*/*.log"):
        try:
            if not file.is_symlink() and file.stat().st_blocks * 512 > kept:
                shorten(file, kept)
        except FileNotFoundError:
            continue


def shorten(file: Path, kept: int) -> None:
    """Give back all but the last `kept` bytes. Raises OSError where the file system has no holes."""
    with file.open("r+b", buffering=0) as opened:
        cut = (os.fstat(opened.fileno()).st_size - kept) // BLOCK * BLOCK
        if cut > 0:
            sparse.punch(opened.fileno(), cut)


def start_of(file: Path) -> int:
    """The byte at which the first whole line of what is kept begins."""
    with file.open("rb") as opened:
        start = sparse.first_data(opened.fileno())
        if start == 0:
            return 0
        opened.seek(start)
        opened.readline()
        return opened.tell()


async def read(file: Path, tail: int | None, more: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log, or its last `tail` lines; and what is added as long as `more()` says so."""
    at = start_of(file) if tail is None else tail_offset(file, tail)
    with file.open("rb") as opened:
        while True:
            going_on = more()
            while chunk := os.pread(
                opened.fileno(), CHUNK, at := max(at, sparse.first_data(opened.fileno()))
            ):
                at += len(chunk)
                yield chunk
            if not going_on:
                return
            await asyncio.sleep(FOLLOW_EVERY)


def tail_offset(file: Path, lines: int) -> int:
    """The byte at which the last `lines` lines begin; reads from the end, a log may be large."""
    first = start_of(file)
    with file.open("rb") as opened:
        end = position = opened.seek(0, 2)
        wanted, found = lines + 1, 0
        while position > first and lines:
            size = min(CHUNK, position - first)
            position -= size
            opened.seek(position)
            chunk = opened.read(size)
            if position + size == end and not chunk.endswith(b"\n"):
                found += 1  # the last line is not finished, and counts
            at = size
            while (at := chunk.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found == wanted:
                    return position + at + 1
        return first if lines else end
