"""Which nodes a Pod may go to: readiness, taints and tolerations, nodeSelector. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in selector.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    if not _affine(pod, labels):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"
    return ""


def _affine(pod: Object, labels: Mapping[str, str]) -> bool:
    """Whether a term of the required node affinity holds, if there are any (core/v1 NodeSelector)."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = [term.get("matchExpressions") or () for term in (required or {}).get("nodeSelectorTerms") or ()]
    return not required or any(term and all(_holds(each, labels) for each in term) for term in terms)


def _holds(requirement: Object, labels: Mapping[str, str]) -> bool:
    held, values = labels.get(requirement["key"]), requirement.get("values") or ()
    answers = {
        "In": held in values,
        "NotIn": held not in values,
        "Exists": held is not None,
        "DoesNotExist": held is None,
    }
    return answers.get(requirement["operator"], False)


def tolerates(pod: Object, taint: Object) -> bool:
    """Whether a toleration of the Pod covers the taint (core/v1 Toleration.ToleratesTaint)."""
    return any(_covers(toleration, taint) for toleration in pod["spec"].get("tolerations") or ())


def _covers(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def choose(pod: Object, nodes: Sequence[Object], load: Mapping[str, int]) -> str:
    """The admissible node with the fewest Pods, by name where equal; "" when there is none."""
    fit = [node["metadata"]["name"] for node in nodes if not refusal(pod, node)]
    return min(fit, key=lambda name: (load.get(name, 0), name), default="")


def explain(pod: Object, nodes: Sequence[Object]) -> str:
    """Why no node will do: `0/3 nodes are available: 2 node(s) were not ready.`"""
    reasons: dict[str, int] = {}
    for node in nodes:
        why = refusal(pod, node)
        reasons[why] = reasons.get(why, 0) + 1
    told = ", ".join(f"{count} {why}" for why, count in sorted(reasons.items())) or "no nodes registered"
    return f"0/{len(nodes)} nodes are available: {told}."
