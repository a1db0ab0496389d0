"""Logs that are written to, shortened and read at the same time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.node.logs import BLOCK, CHUNK, read, shorten_all, start_of, tail_offset

KEPT = 16 * BLOCK
LINE = b"%09d\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "default_pod_uid" / "c" / "0.log"
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def writer(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("text", "lines", "tail"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
        (b"x" * CHUNK + b"\ny\n" * 3, 2, b"\ny\n"),
        (b"first\n" + b"x" * (CHUNK + 7) + b"\nlast\n", 2, b"x" * (CHUNK + 7) + b"\nlast\n"),
    ],
)
def test_the_tail_of_a_log(file: Path, text: bytes, lines: int, tail: bytes) -> None:
    file.write_bytes(text)
    assert text[tail_offset(file, lines) :] == tail


def whole(file: Path, tail: int | None = None) -> bytes:
    async def all_of_it() -> bytes:
        return b"".join([chunk async for chunk in read(file, tail, lambda: False)])

    return asyncio.run(all_of_it())


def test_a_long_log_takes_no_more_room_and_begins_with_a_whole_line(file: Path, writer: int) -> None:
    for number in range(100_000):
        os.write(writer, LINE % number)
    shorten_all(KEPT, file.parents[2])
    assert file.stat().st_blocks * 512 <= KEPT + 2 * BLOCK
    os.write(writer, LINE % 100_000)
    lines = whole(file).splitlines()
    assert lines == [b"%09d" % number for number in range(100_001 - len(lines), 100_001)]
    assert (KEPT - BLOCK) // 10 < len(lines) <= (KEPT + BLOCK) // 10 + 1
    assert whole(file, 2) == b"000099999\n000100000\n"
    assert whole(file, 10**6) == whole(file)


def test_a_short_log_stays_whole(file: Path, writer: int) -> None:
    os.write(writer, b"one\ntwo\n")
    shorten_all(KEPT, file.parents[2])
    assert (start_of(file), whole(file)) == (0, b"one\ntwo\n")


def test_who_follows_misses_nothing_while_the_log_is_cut(file: Path, writer: int) -> None:
    async def follow() -> bytes:
        seen, number = b"", 0

        def more() -> bool:
            nonlocal number
            for _ in range(1000):
                os.write(writer, LINE % number)
                number += 1
            shorten_all(KEPT, file.parents[2])
            return number < 20_000

        async for chunk in read(file, None, more):
            seen += chunk
        return seen

    assert asyncio.run(follow()) == b"".join(LINE % number for number in range(20_000))
