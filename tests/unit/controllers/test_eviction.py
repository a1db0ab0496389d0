from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from testbed.controllers.eviction import patience

UNREACHABLE: dict[str, Any] = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
OTHER = {"key": "other", "effect": "NoExecute"}


def bears(seconds: int | None = None, key: str = UNREACHABLE["key"]) -> dict[str, Any]:
    limit = {} if seconds is None else {"tolerationSeconds": seconds}
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **limit}


def aged(taint: dict[str, Any]) -> dict[str, Any]:
    """With `timeAdded` in place of `age`, in seconds."""
    added = datetime.now(UTC) - timedelta(seconds=taint["age"])
    return {**UNREACHABLE, "timeAdded": added.strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.mark.parametrize(
    ("tolerations", "taints", "expected"),
    [
        ([], [], None),
        ([], [UNREACHABLE], 0),
        ([bears()], [UNREACHABLE], None),
        ([bears(300)], [UNREACHABLE], 300),
        ([bears(300), bears(20)], [UNREACHABLE], 20),
        ([bears(300)], [UNREACHABLE | {"age": 100}], 200),
        ([bears(300)], [UNREACHABLE | {"age": 1000}], 0),
        ([bears(300)], [UNREACHABLE, OTHER], 0),
        ([bears(300), bears(key="other")], [UNREACHABLE, OTHER], 300),
    ],
)
def test_how_long_a_pod_may_stay(
    tolerations: list[dict[str, Any]], taints: list[dict[str, Any]], expected: float | None
) -> None:
    dated = [aged(taint) if "age" in taint else taint for taint in taints]
    left = patience({"spec": {"tolerations": tolerations}}, dated)
    assert left is None if expected is None else left == pytest.approx(expected, abs=2)
