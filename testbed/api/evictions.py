"""Evictions: a Pod is taken away if its PodDisruptionBudget has one left to give.

k8s.io/kubernetes `pkg/registry/core/pod/storage/eviction.go`. The numbers are the disruption controller's;
what is allowed is counted off at once, so that two callers never get the same one.
"""

from __future__ import annotations

from typing import Any

from testbed.api.lifecycle import Change, DeleteOptions, now
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.status import StatusError, forbidden, internal
from testbed.api.store import Key
from testbed.model.conditions import holds
from testbed.model.labels import selects
from testbed.model.resources import POD_DISRUPTION_BUDGETS, PODS

Object = dict[str, Any]

_FREE = ("Failed", "Pending", "Succeeded")
"""Phases in which a Pod is nobody's loss."""
_RETRY_SECONDS = 10


async def evict(objects: Objects, key: Key, options: DeleteOptions) -> None:
    """Delete a Pod as far as its budget allows. Raises StatusError 429 when it does not."""
    kind = BY_ID[PODS.qualified]
    pod = objects.find(kind, key).decode()
    budgets = BY_ID[POD_DISRUPTION_BUDGETS.qualified]
    metadata, status = pod["metadata"], pod.get("status") or {}
    if status.get("phase") not in _FREE and not metadata.get("deletionTimestamp"):
        found = [each.decode() for each in objects.store.items(budgets.id, key[0])]
        labels = metadata.get("labels") or {}
        found = [each for each in found if selects(each["spec"].get("selector"), labels)]
        if len(found) > 1:
            told = "This pod has more than one PodDisruptionBudget"
            raise internal(f"{told}, which the eviction subresource does not support.")
        for budget in found:
            if holds(pod, "Ready") or not _unready_may_go(budget):
                place = (key[0], budget["metadata"]["name"])
                change = _counted_off(key[1])
                await objects.update(budgets, place, change, part="status", dry_run=options.dry_run)
    await objects.delete(kind, key, options)


def _unready_may_go(budget: Object) -> bool:
    """Whether Pods that are not ready need no allowance."""
    status = budget.get("status") or {}
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def _counted_off(pod: str) -> Change:
    """The change of a budget that lets this Pod go. Raises StatusError when there is none left."""

    def change(budget: Object) -> Object:
        metadata, status = budget["metadata"], budget.get("status") or {}
        name, left = metadata["name"], status.get("disruptionsAllowed", 0)
        if status.get("observedGeneration", 0) < metadata.get("generation", 1):
            told = f"The disruption budget {name} is still being processed by the server."
            raise _refusal(told, _RETRY_SECONDS)
        if left < 0:
            raise forbidden(POD_DISRUPTION_BUDGETS, name, "pdb disruptions allowed is negative")
        if not left:
            needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
            told = f"The disruption budget {name} needs {needs} healthy pods and has {has} currently"
            raise _refusal(told, 0)
        disrupted = (status.get("disruptedPods") or {}) | {pod: now()}
        return {**budget, "status": {**status, "disruptionsAllowed": left - 1, "disruptedPods": disrupted}}

    return change


def _refusal(told: str, retry_after: int) -> StatusError:
    details = {"causes": [{"reason": "DisruptionBudget", "message": told}]}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return StatusError(429, "TooManyRequests", message, details, retry_after=retry_after)
