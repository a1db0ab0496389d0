"""How many Pods a budget lets go."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.controllers.disruption import judged
from testbed.model.conditions import timestamp

Object = dict[str, Any]


def pods(ready: int, unready: int = 0) -> list[Object]:
    return [
        {
            "metadata": {"name": f"p{at}"},
            "status": {"conditions": [{"type": "Ready", "status": "True" if at < ready else "False"}]},
        }
        for at in range(ready + unready)
    ]


@pytest.mark.feature("C3")
@pytest.mark.parametrize(
    ("spec", "ready", "unready", "scale", "allowed", "desired"),
    [
        ({"minAvailable": 2}, 3, 0, 3, 1, 2),
        ({"minAvailable": 3}, 3, 0, 3, 0, 3),
        ({"minAvailable": "50%"}, 3, 0, 3, 1, 2),  # a percentage is rounded up
        ({"maxUnavailable": 1}, 3, 0, 3, 1, 2),
        ({"maxUnavailable": 1}, 2, 1, 3, 0, 2),  # one is missing already
        ({"maxUnavailable": "100%"}, 3, 0, 3, 3, 0),
        ({"maxUnavailable": 1}, 2, 0, 4, 0, 3),  # Pods that are not there yet count as missing
        ({"maxUnavailable": 1}, 0, 0, 0, 0, 0),
        ({}, 2, 0, 2, 1, 1),
    ],
)
def test_what_may_go(spec: Object, ready: int, unready: int, scale: int, allowed: int, desired: int) -> None:
    budget = {"metadata": {"generation": 4}, "spec": spec}
    status = judged(budget, pods(ready, unready), scale)
    assert (status["disruptionsAllowed"], status["desiredHealthy"]) == (allowed, desired)
    assert status["observedGeneration"] == 4
    assert status["conditions"][0]["status"] == ("True" if allowed else "False")


def test_a_pod_whose_eviction_was_allowed_does_not_count_until_it_is_gone_or_late() -> None:
    def budget(time: str) -> Object:
        return {
            "metadata": {},
            "spec": {"minAvailable": 1},
            "status": {"disruptedPods": {"p0": time, "gone": time}},
        }

    status = judged(budget(timestamp()), pods(3), 3)
    assert (status["currentHealthy"], list(status["disruptedPods"])) == (2, ["p0"])
    status = judged(budget("2020-01-01T00:00:00Z"), pods(3), 3)
    assert (status["currentHealthy"], status["disruptedPods"]) == (3, {})
