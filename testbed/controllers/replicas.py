"""ReplicaSets and ReplicationControllers: as many Pods of a template as asked for."""

from __future__ import annotations

from testbed.client import key_of
from testbed.client.events import Recorder
from testbed.controllers.base import Object, World
from testbed.controllers.owner import PodOwner, is_active, named, pod_of
from testbed.model.conditions import condition, holds, seconds_since
from testbed.model.resources import REPLICA_SETS, REPLICATION_CONTROLLERS


class ReplicaSets(PodOwner):
    name = "replicaset"
    resource = REPLICA_SETS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.events = Recorder(world.client, f"{self.name}-controller")

    async def sync(self, key: str) -> None:
        owner = self.owner(key)
        if owner is None:
            return
        pods = [pod for pod in self.owned(owner) if is_active(pod)]
        wanted = owner["spec"].get("replicas", 1)
        if not self.is_ending(owner) and len(pods) != wanted:
            if len(pods) < wanted:
                made = await self.make([pod_of(owner, self.resource)] * (wanted - len(pods)))
                for name in (pod["metadata"]["name"] for pod in made if pod):
                    self.events.note(owner, "SuccessfulCreate", f"Created pod: {name}")
            else:
                pods.sort(key=_least_missed)
                surplus = pods[: len(pods) - wanted]
                await self.remove(surplus)
                for name in (pod["metadata"]["name"] for pod in surplus):
                    self.events.note(owner, "SuccessfulDelete", f"Deleted pod: {name}")
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
