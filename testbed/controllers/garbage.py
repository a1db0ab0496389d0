"""Garbage collection: what has owners goes when the last of them has gone.

An owner that is deleted in the foreground stays until its dependents have gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from testbed.client import NotFound, key_of
from testbed.controllers.base import Controller, Object, World
from testbed.model import resources
from testbed.model.resources import Resource

FOREGROUND = "foregroundDeletion"
"""The finalizer of an owner that waits for its dependents."""

DEPENDENTS: tuple[Resource, ...] = (
    resources.PODS,
    resources.REPLICA_SETS,
    resources.ENDPOINT_SLICES,
    resources.CONTROLLER_REVISIONS,
    resources.DEPLOYMENTS,
    resources.DAEMON_SETS,
    resources.STATEFUL_SETS,
    resources.JOBS,
    resources.SERVICES,
    resources.CONFIG_MAPS,
    resources.SECRETS,
    resources.INGRESSES,
    resources.POD_DISRUPTION_BUDGETS,
)
"""Kinds whose objects are made by controllers, here or elsewhere."""

OWNERS: tuple[Resource, ...] = (
    resources.DEPLOYMENTS,
    resources.REPLICA_SETS,
    resources.REPLICATION_CONTROLLERS,
    resources.DAEMON_SETS,
    resources.STATEFUL_SETS,
    resources.JOBS,
    resources.SERVICES,
    resources.ENDPOINTS,
    resources.CONFIG_MAPS,
    resources.PODS,
)
"""Kinds that are watched for their end. Any other owner is asked for when its dependent appears."""

_BY_KIND = {(each.api_version, each.kind): each for each in resources.ALL}


class GarbageCollector(Controller):
    """Keys are `plural/key`, of dependents and of owners that wait for theirs."""

    name = "garbagecollector"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._alive: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._dependents = {each.plural: world.index(each, "owner", _owner_uids) for each in DEPENDENTS}
        for resource in OWNERS:
            world.informer(resource).subscribe(self._owner_changed)
            world.informer(resource).subscribe(self._wait_for_dependents(resource))
        for resource in DEPENDENTS:
            self._watch_dependents(resource)

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._alive.add(new["metadata"]["uid"])
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            uid = old["metadata"]["uid"]
            self._alive.discard(uid)
            for plural, index in self._dependents.items():
                for dependent in index[uid]:
                    self.queue.add(f"{plural}/{key_of(dependent)}")

    def _wait_for_dependents(self, resource: Resource) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None and _waits(new):
                key = self._waiting[new["metadata"]["uid"]] = f"{resource.plural}/{key_of(new)}"
                self.queue.add(key)
            elif old is not None:
                self._waiting.pop(old["metadata"]["uid"], None)

        return changed

    def _watch_dependents(self, resource: Resource) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            if old is None and new is not None and set(_owner_uids(new)) - self._alive:
                self.queue.add(f"{resource.plural}/{key_of(new)}")
            if new is None and old is not None:
                for uid in self._waiting.keys() & set(_owner_uids(old)):
                    self.queue.add(self._waiting[uid])

        self.world.informer(resource).subscribe(changed)

    async def sync(self, key: str) -> None:
        plural, name = key.split("/", 1)
        resource = next(each for each in (*DEPENDENTS, *OWNERS) if each.plural == plural)
        obj = self.world.informer(resource).store.get(name)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            if obj and _waits(obj):
                await self._release(resource, obj)
            return
        owners = obj["metadata"].get("ownerReferences") or ()
        for owner in owners:
            if owner["uid"] in self._alive or await self._exists(obj, owner):
                return
        if owners:
            await self._delete(resource, obj)

    async def _release(self, resource: Resource, owner: Object) -> None:
        """Delete the dependents of an owner that waits for them; let it go when there are none."""
        left = 0
        for kind in DEPENDENTS:
            found = self._dependents[kind.plural][owner["metadata"]["uid"]]
            left += len(found)
            for each in found:
                if not each["metadata"].get("deletionTimestamp"):
                    await self._delete(kind, each, "Foreground" if self._owns(each) else None)
        if left:
            return
        metadata = owner["metadata"]
        kept = [each for each in metadata["finalizers"] if each != FOREGROUND]
        patch = {"metadata": {"finalizers": kept or None, "resourceVersion": metadata["resourceVersion"]}}
        with contextlib.suppress(NotFound):
            await self.client.patch(resource, metadata["name"], metadata["namespace"], patch)

    def _owns(self, obj: Object) -> bool:
        """Whether anything depends on it."""
        return any(index[obj["metadata"]["uid"]] for index in self._dependents.values())

    async def _delete(self, resource: Resource, obj: Object, propagation: str | None = None) -> None:
        metadata = obj["metadata"]
        name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
        with contextlib.suppress(NotFound):
            await self.client.delete(resource, name, namespace, uid=uid, propagation=propagation)

    async def _exists(self, obj: Object, owner: Object) -> bool:
        """Ask the API itself: the copies may be behind. An owner of an unknown kind is left in peace."""
        resource = _BY_KIND.get((owner["apiVersion"], owner["kind"]))
        if resource is None:
            return True
        namespace = obj["metadata"]["namespace"] if resource.namespaced else None
        try:
            found = await self.client.get(resource, owner["name"], namespace)
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == owner["uid"])


def _waits(obj: Object) -> bool:
    metadata = obj["metadata"]
    return bool(metadata.get("deletionTimestamp")) and FOREGROUND in (metadata.get("finalizers") or ())


def _owner_uids(obj: Object) -> Iterable[str]:
    return [str(owner["uid"]) for owner in obj["metadata"].get("ownerReferences") or ()]
