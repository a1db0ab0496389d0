"""Hints by the share of each zone: everybody serves his own, as far as that is fair."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.controllers import topology

Object = dict[str, Any]


def node(zone: str, cpu: str = "2", **labels: str) -> Object:
    status = {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"labels": {topology.ZONE: zone, **labels}}, "status": status}


def endpoints(*zones: str, ready: bool = True) -> list[Object]:
    return [
        {"addresses": [f"10.0.0.{n}"], "conditions": {"ready": ready}, "zone": zone}
        for n, zone in enumerate(zones)
    ]


def hints(found: list[Object]) -> list[str]:
    return ["".join(zone["name"] for zone in each.get("hints", {}).get("forZones", ())) for each in found]


HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.feature("B10")
@pytest.mark.parametrize(
    ("zones", "share", "wanted"),
    [
        ("ab", HALVES, ["a", "b"]),
        ("aaab", HALVES, ["a", "a", "b", "b"]),
        ("aaaa", HALVES, ["a", "a", "b", "b"]),
        ("aab", {"a": 1 / 3, "b": 2 / 3}, ["a", "b", "b"]),
        ("aaab", {"a": 0.25, "b": 0.75}, ["a", "b", "b", "b"]),
        ("a", HALVES, [""]),
        ("abc", HALVES, ["", "", ""]),
        ("aab", {"a": 1.0}, ["", "", ""]),
        ("aaa", {}, ["", "", ""]),
        ("aaaaa", {"a": 0.9, "b": 0.05, "c": 0.05}, [""] * 5),
    ],
    ids=str,
)
def test_who_serves_whom(zones: str, share: dict[str, float], wanted: list[str]) -> None:
    assert hints(topology.hinted(endpoints(*zones), share)) == wanted


def test_who_is_not_ready_has_no_hint_and_takes_no_share() -> None:
    given = endpoints("a", "b") + endpoints("a", "a", ready=False)
    assert hints(topology.hinted(given, HALVES)) == ["a", "b", "", ""]


def test_shares_are_those_of_the_processors_of_ready_workers() -> None:
    workers = [node("a", "2"), node("b", "4"), node("b", "2000m")]
    lost = {**node("c"), "status": {"allocatable": {"cpu": "2"}, "conditions": []}}
    control = node("d", **{topology.CONTROL_PLANE: ""})
    assert topology.shares([*workers, lost, control]) == {"a": 0.25, "b": 0.75}
    assert topology.shares([*workers, node("")]) == {}


@given(st.lists(st.sampled_from("abc"), max_size=40), st.lists(st.integers(1, 9), min_size=2, max_size=3))
def test_no_zone_is_overloaded_or_all_serve_all(zones: list[str], weights: list[int]) -> None:
    share = {zone: weight / sum(weights) for zone, weight in zip("abc", weights, strict=False)}
    made = hints(topology.hinted(endpoints(*zones), share))
    if any(made):
        assert all(made)
        served = Counter(made)
        assert all(abs(served[zone] - part * len(made)) < 2 for zone, part in share.items())
        assert all(served[zone] for zone in share)
