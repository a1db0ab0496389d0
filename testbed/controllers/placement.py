"""Which nodes a Pod may go to, for what they are: readiness, taints, nodeSelector and node affinity. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from testbed.model.conditions import holds

Object = dict[str, Any]


def refusal(pod: Object, node: Object) -> str:
    """Why the Pod may not go to the node, in the scheduler's words; "" when it may."""
    if not holds(node, "Ready"):
        return "node(s) were not ready"
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    return misfit(pod, node)


def misfit(pod: Object, node: Object) -> str:
    """As `refusal`, whatever the node's condition: its labels and taints alone."""
    if not affine(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    return ""


def affine(pod: Object, node: Object) -> bool:
    """Whether nodeSelector holds, and a term of the required node affinity if there are any."""
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    required = _node_affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    return all(labels.get(name) == value for name, value in selector.items()) and (
        not required or any(_term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())
    )


def liking(pod: Object, node: Object) -> int:
    """The weight of the preferred node affinity that holds, less the taints that ask to stay away."""
    preferred = _node_affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    liked = sum(int(each["weight"]) for each in preferred if _term_holds(each["preference"], node))
    taints = node["spec"].get("taints") or ()
    shunned = [each for each in taints if each["effect"] == "PreferNoSchedule" and not tolerates(pod, each)]
    return liked - 100 * len(shunned)


def _node_affinity(pod: Object) -> Object:
    return (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}


def _term_holds(term: Object, node: Object) -> bool:
    """All of a term; an empty one never holds (core/v1 NodeSelectorTerm)."""
    labels, name = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    held = [_holds(each, labels) for each in expressions] + [_holds(each, name) for each in fields]
    return bool(held) and all(held)


def _holds(requirement: Object, labels: Mapping[str, str]) -> bool:
    held, values = labels.get(requirement["key"]), requirement.get("values") or ()
    answers = {
        "In": held in values,
        "NotIn": held not in values,
        "Exists": held is not None,
        "DoesNotExist": held is None,
        "Gt": _less(values, held),
        "Lt": _less((held,), next(iter(values), None)),
    }
    return answers.get(requirement["operator"], False)


def _less(few: Iterable[str | None], many: str | None) -> bool:
    """Whether the first of `few` and `many` are numbers, in that order."""
    first = next(iter(few), None)
    return bool(first and many and first.isdigit() and many.isdigit() and int(first) < int(many))


def tolerates(pod: Object, taint: Object) -> bool:
    """Whether a toleration of the Pod covers the taint (core/v1 Toleration.ToleratesTaint)."""
    return any(covers(toleration, taint) for toleration in pod["spec"].get("tolerations") or ())


def covers(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def explain(reasons: Iterable[str]) -> str:
    """Why no node will do, from the refusal of each: `0/3 nodes are available: 2 node(s) were not ready.`"""
    counts: dict[str, int] = {}
    for why in reasons:
        counts[why] = counts.get(why, 0) + 1
    told = ", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "no nodes registered"
    return f"0/{sum(counts.values())} nodes are available: {told}."
