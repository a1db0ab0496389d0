"""The table of features is whole, true, and as the tests are."""

from __future__ import annotations

import features
import pytest


def test_every_row_has_a_test() -> None:
    rows = set(features.row_names())
    held = set(features.held())
    assert held <= rows, "a marker names a row that is none"
    assert rows <= held, "a row has no test"


def test_the_document_is_current() -> None:
    assert features.DOCUMENT.read_text() == features.document(), "run `make features`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@pytest.mark.feature('A1', 'A2')\n@other(3)\ndef test_x(): pass", [("test_x", ["A1", "A2"])]),
        ("pytestmark = [pytest.mark.needs('x'), pytest.mark.feature('A1')]", [("", ["A1"])]),
        ("def test_x(): pass", [("test_x", [])]),
    ],
)
def test_markers_are_read(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert list(features.marked(features.ast.parse(text))) == expected
