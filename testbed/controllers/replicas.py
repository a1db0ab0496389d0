"""ReplicaSets and ReplicationControllers: as many Pods of a template as asked for."""

from __future__ import annotations

from testbed.client import key_of
from testbed.controllers.base import Object
from testbed.controllers.owner import PodOwner, is_active, named, pod_of
from testbed.model.conditions import condition, holds, seconds_since
from testbed.model.resources import REPLICA_SETS, REPLICATION_CONTROLLERS


class ReplicaSets(PodOwner):
    name = "replicaset"
    resource = REPLICA_SETS

    async def sync(self, key: str) -> None:
        owner = self.owner(key)
        if owner is None:
            return
        pods = [pod for pod in self.owned(owner) if is_active(pod)]
        wanted = owner["spec"].get("replicas", 1)
        if not self.is_ending(owner) and len(pods) != wanted:
            if len(pods) < wanted:
                await self.make([pod_of(owner, self.resource)] * (wanted - len(pods)))
            else:
                pods.sort(key=_least_missed)
                await self.remove(pods[: len(pods) - wanted])
            pods = [pod for pod in self.owned(owner) if is_active(pod)]
        await self._report(owner, pods)

    async def _report(self, owner: Object, pods: list[Object]) -> None:
        settle = owner["spec"].get("minReadySeconds", 0)
        ready = [pod for pod in pods if holds(pod, "Ready")]
        waits = [settle - _ready_for(pod) for pod in ready] if settle else []
        counts = {
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready) - sum(wait > 0 for wait in waits),
        }
        status = {
            "replicas": len(pods),
            **named(counts),
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        await self.put_status(owner, status)
        if any(wait > 0 for wait in waits):
            self.queue.add(key_of(owner), min(wait for wait in waits if wait > 0))


class ReplicationControllers(ReplicaSets):
    name = "replicationcontroller"
    resource = REPLICATION_CONTROLLERS


def _least_missed(pod: Object) -> tuple[bool, bool, bool, float]:
    """Which Pod to delete first: unscheduled, then not running, then not ready, then the youngest."""
    running = (pod.get("status") or {}).get("phase") == "Running"
    age = seconds_since(pod["metadata"]["creationTimestamp"])
    return bool(pod["spec"].get("nodeName")), running, holds(pod, "Ready"), age


def _ready_for(pod: Object) -> float:
    return seconds_since((condition(pod, "Ready") or {}).get("lastTransitionTime", "1970-01-01T00:00:00Z"))
