from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from testbed.controllers.eviction import patience

UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
OTHER = {"key": "other", "effect": "NoExecute"}


def bears(seconds: int | None = None, key: str = UNREACHABLE["key"]) -> dict[str, Any]:
    limit = {} if seconds is None else {"tolerationSeconds": seconds}
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **limit}


def since(seconds: float) -> dict[str, str]:
    added = datetime.now(UTC) - timedelta(seconds=seconds)
    return {**UNREACHABLE, "timeAdded": added.strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.mark.parametrize(
    ("tolerations", "taints", "expected"),
    [
        ([], [], None),
        ([], [UNREACHABLE], 0),
        ([bears()], [UNREACHABLE], None),
        ([bears(300)], [UNREACHABLE], 300),
        ([bears(300), bears(20)], [UNREACHABLE], 20),
        ([bears(300)], [since(100)], 200),
        ([bears(300)], [since(1000)], 0),
        ([bears(300)], [UNREACHABLE, OTHER], 0),
        ([bears(300), bears(key="other")], [UNREACHABLE, OTHER], 300),
    ],
)
def test_how_long_a_pod_may_stay(
    tolerations: list[dict[str, Any]], taints: list[dict[str, Any]], expected: float | None
) -> None:
    left = patience({"spec": {"tolerations": tolerations}}, taints)
    assert left is None if expected is None else left == pytest.approx(expected, abs=30)
