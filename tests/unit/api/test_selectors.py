"""Label and field selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.api import selectors
from testbed.api.status import StatusError

LABELS = {"app": "web", "tier": "front", "example.com/weight": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=x", True),
        ("app in (db, web)", True),
        ("app notin (db,web),tier", False),
        ("missing notin (a)", True),
        ("tier", True),
        ("!tier", False),
        ("!missing", True),
        ("empty=", True),
        ("empty", True),
        ("missing=", False),
        ("example.com/weight>6", True),
        ("example.com/weight<7", False),
        ("app>1", False),
        ("app in (web),tier notin (back),!missing,example.com/weight<8", True),
    ],
)
def test_label_selectors(text: str, expected: bool) -> None:
    assert selectors.matches(selectors.parse_labels(text), LABELS.get) is expected


@pytest.mark.parametrize("text", ["a b", "=x", "app in web", "app in (a", "a=b=c", "a/b/c=d", "app=w!b", ","])
def test_malformed_label_selectors_are_a_bad_request(text: str) -> None:
    with pytest.raises(StatusError) as refusal:
        selectors.parse_labels(text)
    assert refusal.value.code == 400


def test_field_selectors() -> None:
    known = frozenset({"metadata.name", "status.phase"})
    terms = selectors.parse_fields("metadata.name=a,status.phase!=Running", known, "Pod")
    assert selectors.matches(terms, {"metadata.name": "a", "status.phase": "Pending"}.get)
    assert not selectors.matches(terms, {"metadata.name": "a", "status.phase": "Running"}.get)
    for text in ("spec.other=x", "metadata.name"):
        with pytest.raises(StatusError) as refusal:
            selectors.parse_fields(text, known, "Pod")
        assert refusal.value.code == 400


WORDS = st.from_regex(r"[a-z]([a-z0-9]{0,4}[a-z0-9])?", fullmatch=True)


@given(st.dictionaries(WORDS, WORDS, max_size=4), WORDS, st.sets(WORDS, min_size=1, max_size=3))
def test_every_term_and_its_opposite_disagree(labels: dict[str, str], key: str, values: set[str]) -> None:
    listed = ",".join(sorted(values))
    for one, other in ((f"{key} in ({listed})", f"{key} notin ({listed})"), (key, f"!{key}")):
        outcomes = [selectors.matches(selectors.parse_labels(text), labels.get) for text in (one, other)]
        assert sorted(outcomes) == [False, True]
