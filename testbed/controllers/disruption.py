"""PodDisruptionBudgets: how many of their Pods may be taken away now.

As k8s.io/kubernetes `pkg/controller/disruption`. The API server counts off what it allows until the next
sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from testbed.client import key_of
from testbed.controllers.base import Controller, Object, World, controller
from testbed.controllers.rollout import share
from testbed.model.conditions import holds, seconds_since, transition
from testbed.model.labels import selects
from testbed.model.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)

SCALED = {each.kind: each for each in (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS)}
PATIENCE = 120.0
"""Seconds after which a Pod whose eviction was allowed, and that is still there, counts again."""


class Disruption(Controller):
    name = "disruption"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pods = world.by_namespace(PODS)
        self.budgets = world.by_namespace(POD_DISRUPTION_BUDGETS)
        self.watch(POD_DISRUPTION_BUDGETS)
        self.watch(PODS, self._of_pod)
        for resource in SCALED.values():
            self.watch(resource, lambda owner: map(key_of, self.budgets[owner["metadata"]["namespace"]]))

    def _of_pod(self, pod: Object) -> Iterable[str]:
        metadata = pod["metadata"]
        for budget in self.budgets[metadata["namespace"]]:
            if selects(budget["spec"].get("selector"), metadata.get("labels") or {}):
                yield key_of(budget)

    async def sync(self, key: str) -> None:
        budget = self.world.informer(POD_DISRUPTION_BUDGETS).store.get(key)
        if budget is None:
            return
        selector = budget["spec"].get("selector")
        everyone = self.pods[budget["metadata"]["namespace"]]
        pods = [pod for pod in everyone if selects(selector, pod["metadata"].get("labels") or {})]
        status = judged(budget, pods, self._scale(pods))
        if status["disruptedPods"]:
            self.queue.add(key, PATIENCE)
        if status != budget.get("status"):
            await self.client.update(
                POD_DISRUPTION_BUDGETS, {**budget, "status": status}, subresource="status"
            )

    def _scale(self, pods: Iterable[Object]) -> int:
        """How many Pods their controllers want."""
        wanted: dict[str, int] = {}
        for pod in pods:
            owner = self._owner(pod)
            if owner is not None and controller(owner) is not None:
                owner = self._owner(owner) or owner
            if owner is not None:
                wanted[owner["metadata"]["uid"]] = owner["spec"].get("replicas", 1)
        return sum(wanted.values())

    def _owner(self, obj: Object) -> Object | None:
        reference = controller(obj)
        resource = SCALED.get(reference["kind"]) if reference else None
        if resource is None or reference is None:
            return None
        return self.world.informer(resource).store.get(f"{obj['metadata']['namespace']}/{reference['name']}")


def judged(budget: Object, pods: list[Object], scale: int) -> Object:
    """The status of a budget. `scale`: Pods that the controllers of these Pods want. Pure."""
    spec, status = budget["spec"], budget.get("status") or {}
    disrupted = _still_going(status.get("disruptedPods") or {}, pods)
    healthy = sum(
        1
        for pod in pods
        if holds(pod, "Ready")
        and not pod["metadata"].get("deletionTimestamp")
        and pod["metadata"]["name"] not in disrupted
    )
    expected = scale if _counts_scale(spec) else len(pods)
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - share(spec["maxUnavailable"], expected))
    else:
        desired = share(spec.get("minAvailable", 1), expected)
    allowed = max(0, healthy - desired) if expected else 0
    reason = "SufficientPods" if allowed else "InsufficientPods"
    condition = transition(budget, "DisruptionAllowed", allowed > 0, reason)
    return {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptedPods": disrupted,
        "conditions": [condition],
    }


def _counts_scale(spec: Mapping[str, Any]) -> bool:
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def _still_going(disrupted: Mapping[str, str], pods: Iterable[Object]) -> dict[str, str]:
    """The Pods whose eviction was allowed and that are neither gone nor marked as going."""
    there = {pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    return {
        name: time for name, time in disrupted.items() if name in there and seconds_since(time) < PATIENCE
    }
