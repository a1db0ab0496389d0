from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.controllers.rollout import Scale, bounds, recreate, rolling, template_hash


@pytest.mark.parametrize(
    ("desired", "strategy", "expected"),
    [
        (10, {}, (3, 2)),
        (2, {}, (1, 0)),
        (4, {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, (0, 1)),
        (4, {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 1}}, (2, 1)),
        (3, {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 9}}, (1, 3)),
    ],
)
def test_bounds_are_rounded_as_kubernetes_rounds_them(
    desired: int, strategy: dict[str, object], expected: tuple[int, int]
) -> None:
    assert bounds(desired, strategy) == expected


@given(
    desired=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    olds=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=3),
)
def test_a_rollout_ends_and_never_leaves_its_bounds(
    desired: int, surge: int, unavailable: int, olds: list[tuple[int, bool]]
) -> None:
    if not surge and not unavailable:
        unavailable = 1
    unavailable = min(unavailable, desired)
    new = Scale("new", 0, 0)
    old = [Scale(f"old{i}", n, n if healthy else 0) for i, (n, healthy) in enumerate(olds)]
    most = max(desired + surge, sum(each.replicas for each in old))
    least = min(desired - unavailable, sum(each.available for each in old))
    for _ in range(100):
        changes = rolling(desired, surge, unavailable, new, old)
        new, *old = [
            Scale(
                each.name,
                changes.get(each.name, each.replicas),
                min(each.available, changes.get(each.name, 99)),
            )
            for each in (new, *old)
        ]
        assert new.replicas + sum(each.replicas for each in old) <= most
        assert new.available + sum(each.available for each in old) >= least
        if not changes and new.available == new.replicas:
            break
        new = Scale("new", new.replicas, min(new.replicas, new.available + 1))  # one more comes up
    assert new == Scale("new", desired, desired)
    assert [each.replicas for each in old] == [0] * len(old)


def test_recreate_waits_for_the_last_old_pod() -> None:
    new, old = Scale("new", 0, 0), Scale("old", 2, 2)
    assert recreate(3, new, [old], 2) == {"old": 0}
    assert recreate(3, new, [Scale("old", 0, 0)], 1) == {}
    assert recreate(3, new, [Scale("old", 0, 0)], 0) == {"new": 3}


def test_a_hash_depends_on_the_template_and_not_on_its_order() -> None:
    one = template_hash({"a": 1, "b": {"c": 2}})
    assert one == template_hash({"b": {"c": 2}, "a": 1}) != template_hash({"a": 1})
    assert len(one) == 10
