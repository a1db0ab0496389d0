from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.model.duration import seconds
from testbed.node.registration import parse_labels, parse_taints
from testbed.node.server import CHUNK, tail_offset


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
def test_the_tail_of_a_log(tmp_path: Path, text: bytes, lines: int, tail: bytes) -> None:
    file = tmp_path / "0.log"
    file.write_bytes(text)
    assert text[tail_offset(file, lines) :] == tail


def test_taints_and_labels_are_read_and_nonsense_is_refused() -> None:
    assert parse_taints("a=b:NoSchedule,c:NoExecute") == [
        {"key": "a", "effect": "NoSchedule", "value": "b"},
        {"key": "c", "effect": "NoExecute"},
    ]
    assert parse_labels("a=,b=c") == {"a": "", "b": "c"}
    with pytest.raises(UsageError, match="register-with-taints"):
        parse_taints("a=b")
    with pytest.raises(UsageError, match="node-labels"):
        parse_labels("a")


def test_durations() -> None:
    assert [seconds(text) for text in ("40s", "1m", "500ms", "1.5h")] == [40.0, 60.0, 0.5, 5400.0]
    with pytest.raises(UsageError, match="duration"):
        seconds("40")
