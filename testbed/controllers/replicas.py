"""ReplicaSets and ReplicationControllers: as many Pods of a template as asked for."""

from __future__ import annotations

from testbed.client import NotFound, key_of
from testbed.controllers.base import Controller, Object, World, controller_key, owned_by
from testbed.model.conditions import condition, holds, seconds_since
from testbed.model.resources import NAMESPACES, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource


class ReplicaSets(Controller):
    name = "replicaset"
    resource: Resource = REPLICA_SETS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pods = world.by_controller(PODS)
        self.watch(self.resource)
        self.watch(PODS, lambda pod: controller_key(pod, self.resource.kind))

    async def sync(self, key: str) -> None:
        owner = self.world.informer(self.resource).store.get(key)
        if owner is None:
            return
        pods = [pod for pod in self.pods[owner["metadata"]["uid"]] if is_active(pod)]
        wanted = owner["spec"].get("replicas", 1)
        if not self._is_ending(owner) and len(pods) != wanted:
            if len(pods) < wanted:
                pod = pod_of(owner, self.resource)
                calls = [self.client.create(PODS, pod) for _ in range(wanted - len(pods))]
                await self.world.catch_up(PODS, await self.world.write(calls))
            else:
                pods.sort(key=_least_missed)
                calls = [self._delete(pod) for pod in pods[: len(pods) - wanted]]
                await self.world.catch_up(PODS, await self.world.write(calls))
            pods = [pod for pod in self.pods[owner["metadata"]["uid"]] if is_active(pod)]
        await self._report(owner, pods)

    def _is_ending(self, owner: Object) -> bool:
        """Whether the owner, or its whole namespace, is on its way out: then nothing new is made."""
        namespace = self.world.informer(NAMESPACES).store.get(owner["metadata"]["namespace"], owner)
        return any(each["metadata"].get("deletionTimestamp") for each in (owner, namespace))

    async def _delete(self, pod: Object) -> Object:
        metadata = pod["metadata"]
        try:
            return await self.client.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )
        except NotFound:
            return {}

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
            **{name: count for name, count in counts.items() if count},
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        if status != owner.get("status"):
            metadata = owner["metadata"]
            patch = {"status": {**dict.fromkeys(owner.get("status") or {}), **status}}
            await self.client.patch(
                self.resource, metadata["name"], metadata["namespace"], patch, subresource="status"
            )
        if any(wait > 0 for wait in waits):
            self.queue.add(key_of(owner), min(wait for wait in waits if wait > 0))


class ReplicationControllers(ReplicaSets):
    name = "replicationcontroller"
    resource = REPLICATION_CONTROLLERS


def is_active(pod: Object) -> bool:
    """Whether the Pod still counts: neither on its way out nor finished."""
    phase = (pod.get("status") or {}).get("phase")
    return not pod["metadata"].get("deletionTimestamp") and phase not in ("Succeeded", "Failed")


def pod_of(owner: Object, resource: Resource) -> Object:
    """A Pod from the owner's template, yet without a name of its own."""
    template = owner["spec"]["template"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
            "ownerReferences": [owned_by(owner, resource)],
        },
        "spec": template["spec"],
    }


def _least_missed(pod: Object) -> tuple[bool, bool, bool, float]:
    """Which Pod to delete first: unscheduled, then not running, then not ready, then the youngest."""
    running = (pod.get("status") or {}).get("phase") == "Running"
    age = seconds_since(pod["metadata"]["creationTimestamp"])
    return bool(pod["spec"].get("nodeName")), running, holds(pod, "Ready"), age


def _ready_for(pod: Object) -> float:
    return seconds_since((condition(pod, "Ready") or {}).get("lastTransitionTime", "1970-01-01T00:00:00Z"))
