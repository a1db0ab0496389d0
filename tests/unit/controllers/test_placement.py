from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from testbed.controllers.neighbours import Surroundings
from testbed.controllers.neighbours import choose as choice
from testbed.controllers.placement import explain, liking, refusal, tolerates
from testbed.controllers.podcidr import free_range
from testbed.errors import UsageError

TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


def node(name: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "cores": "4"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def choose(pod: dict[str, Any], nodes: list[dict[str, Any]], load: dict[str, int]) -> str:
    """The node chosen for the Pod, where `load` Pods are on each."""
    held = {name: {str(number): {} for number in range(count)} for name, count in load.items()}
    return choice(pod, Surroundings(nodes, held), minded=False)[0]


def test_the_emptiest_node_is_chosen_and_names_break_ties() -> None:
    nodes = [node("b"), node("a"), node("c")]
    assert choose(pod(), nodes, {}) == "a"
    assert choose(pod(), nodes, {"a": 2, "b": 1, "c": 1}) == "b"


@pytest.mark.parametrize(
    ("expressions", "fits"),
    [
        ([("kubernetes.io/hostname", "In", ["a", "b"])], True),
        ([("kubernetes.io/hostname", "NotIn", ["a"])], False),
        ([("zone", "NotIn", ["x"]), ("kubernetes.io/hostname", "Exists", [])], True),
        ([("zone", "Exists", [])], False),
        ([("zone", "DoesNotExist", [])], True),
        ([("cores", "Gt", ["3"])], True),
        ([("cores", "Gt", ["4"])], False),
        ([("cores", "Lt", ["5"])], True),
        ([("zone", "Lt", ["5"])], False),
        ([], False),
    ],
)
def test_required_node_affinity(expressions: list[tuple[str, str, list[str]]], fits: bool) -> None:
    terms = [{"key": key, "operator": operator, "values": values} for key, operator, values in expressions]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert choose(pod(affinity=affinity), [node("a")], {}) == ("a" if fits else "")


@pytest.mark.parametrize(
    "other", [node("a", "False"), node("a", taints=[TAINT]), node("a", unschedulable=True)]
)
def test_a_node_that_may_not_be_used_is_passed_over(other: dict[str, Any]) -> None:
    assert choose(pod(), [other, node("b")], {"b": 50}) == "b"


def test_the_node_selector_is_respected() -> None:
    assert choose(pod(nodeSelector={"kubernetes.io/hostname": "b"}), [node("a"), node("b")], {"b": 9}) == "b"


@pytest.mark.parametrize(
    ("toleration", "covered"),
    [
        ({"key": "dedicated", "value": "db", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated", "value": "db", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], covered: bool) -> None:
    assert tolerates(pod(tolerations=[toleration]), TAINT) is covered


def test_preferences_count_more_than_emptiness() -> None:
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    preferred = [{"weight": 5, "preference": here}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    assert choose(pod(affinity=affinity), [node("a"), node("b")], {"b": 9}) == "b"
    soft = {**TAINT, "effect": "PreferNoSchedule"}
    assert liking(pod(), node("a", taints=[soft])) < 0
    assert choose(pod(), [node("a", taints=[soft]), node("b")], {"b": 9}) == "b"
    assert choose(pod(), [node("a", taints=[soft])], {}) == "a"


def test_why_there_is_no_node_is_said_with_counts() -> None:
    nodes = [node("a", "False"), node("b", "Unknown"), node("c", taints=[TAINT])]
    assert explain(refusal(pod(), each) for each in nodes) == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 2 node(s) were not ready."
    )
    assert explain([]) == "0/0 nodes are available: no nodes registered."


def test_a_free_pod_range_is_found_and_its_lack_is_said() -> None:
    cidr = IPv4Network("10.244.0.0/23")
    assert free_range(cidr, {"10.244.0.0/24"}) == "10.244.1.0/24"
    with pytest.raises(UsageError, match="larger --cluster-cidr"):
        free_range(cidr, {"10.244.0.0/24", "10.244.1.0/24"})
