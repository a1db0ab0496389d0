"""What the controllers share that own Pods directly: finding, making and removing them, and their status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.client import AlreadyExists, NotFound
from testbed.controllers.base import Controller, Object, World, controller_key, owned_by
from testbed.controllers.rollout import template_hash
from testbed.model.resources import NAMESPACES, PODS, Resource

REVISION = "controller-revision-hash"


class PodOwner(Controller):
    """`sync` runs for each object of the kind that changes, and when one of its Pods does."""

    resource: Resource

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pods = world.by_controller(PODS)
        self.watch(self.resource)
        self.watch(PODS, lambda pod: controller_key(pod, self.resource.kind))

    def owner(self, key: str) -> Object | None:
        return self.world.informer(self.resource).store.get(key)

    def owned(self, owner: Object) -> list[Object]:
        """All Pods of the owner, those on their way out too."""
        return self.pods[owner["metadata"]["uid"]]

    def is_ending(self, owner: Object) -> bool:
        """Whether the owner, or its whole namespace, is on its way out: then nothing new is made."""
        namespace = self.world.informer(NAMESPACES).store.get(owner["metadata"]["namespace"], owner)
        return any(each["metadata"].get("deletionTimestamp") for each in (owner, namespace))

    async def make(self, pods: Iterable[Object]) -> list[Object]:
        """Create Pods, and wait until they are among those `owned` returns. Empty for one that was there."""
        made = await self.world.write(self._create(pod) for pod in pods)
        await self.world.catch_up(PODS, made)
        return made

    async def remove(self, pods: Iterable[Object]) -> None:
        """Delete Pods, and wait until `owned` shows it."""
        await self.world.catch_up(PODS, await self.world.write(self._delete(pod) for pod in pods))

    async def _create(self, pod: Object) -> Object:
        try:
            return await self.client.create(PODS, pod)
        except AlreadyExists:  # its event is still under way, or the name is someone else's
            return {}

    async def _delete(self, pod: Object) -> Object:
        metadata = pod["metadata"]
        try:
            return await self.client.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )
        except NotFound:
            return {}

    async def put_status(self, owner: Object, status: Object) -> None:
        """Write the whole status if it is another one."""
        if status != owner.get("status"):
            metadata = owner["metadata"]
            patch = {"status": {**dict.fromkeys(owner.get("status") or {}), **status}}
            await self.client.patch(
                self.resource, metadata["name"], metadata["namespace"], patch, subresource="status"
            )


def is_active(pod: Object) -> bool:
    """Whether the Pod still counts: neither on its way out nor finished."""
    return not pod["metadata"].get("deletionTimestamp") and not is_finished(pod)


def is_finished(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def pod_of(owner: Object, resource: Resource, **labels: str) -> Object:
    """A Pod from the owner's template, yet without a name of its own. May be changed."""
    template = owner["spec"]["template"]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {**(metadata.get("annotations") or {})},
            "ownerReferences": [owned_by(owner, resource)],
        },
        "spec": {**template["spec"]},
    }


def revision_of(owner: Object) -> str:
    return template_hash(owner["spec"]["template"])


def is_of(pod: Object, revision: str) -> bool:
    """Whether the Pod was made from that revision of the template."""
    return bool((pod["metadata"].get("labels") or {}).get(REVISION) == revision)


def named(counts: dict[str, int]) -> dict[str, Any]:
    """Counts for a status; those of 0 are left out, as Kubernetes does."""
    return {name: count for name, count in counts.items() if count}
