"""ClusterRoles that are the sum of others."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.controllers.aggregation import summed


def role(name: str, verb: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "rules": [{"verbs": [verb]}]}


@pytest.mark.feature("C3")
def test_a_sum_has_the_rules_that_its_selectors_name_each_once() -> None:
    selectors = [{"matchLabels": {"to": "view"}}, {"matchLabels": {"to": "edit"}}]
    own = role("sum", "own", to="view") | {"aggregationRule": {"clusterRoleSelectors": selectors}}
    others = [
        role("c", "get", to="view"),
        role("a", "list", to="edit"),
        role("b", "get", to="edit"),
        role("d", "no"),
    ]
    assert summed(own, [own, *others]) == [{"verbs": ["list"]}, {"verbs": ["get"]}]
