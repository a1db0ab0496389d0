"""Garbage collection: what has owners goes when the last of them has gone (background deletion)."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.client import NotFound, key_of
from testbed.controllers.base import Controller, Object, World
from testbed.model import resources
from testbed.model.resources import Resource

DEPENDENTS: tuple[Resource, ...] = (
    resources.PODS,
    resources.REPLICA_SETS,
    resources.ENDPOINT_SLICES,
)
"""Kinds whose objects are made by controllers here."""

OWNERS: tuple[Resource, ...] = (
    resources.DEPLOYMENTS,
    resources.REPLICA_SETS,
    resources.REPLICATION_CONTROLLERS,
    resources.DAEMON_SETS,
    resources.STATEFUL_SETS,
    resources.JOBS,
    resources.SERVICES,
    resources.ENDPOINTS,
)
"""Kinds that are watched for their end. Any other owner is asked for when its dependent appears."""

_BY_KIND = {(each.api_version, each.kind): each for each in resources.ALL}


class GarbageCollector(Controller):
    """Keys are `plural/key` of dependents."""

    name = "garbagecollector"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._alive: set[str] = set()
        self._dependents = {each.plural: world.index(each, "owner", _owner_uids) for each in DEPENDENTS}
        for resource in OWNERS:
            world.informer(resource).subscribe(self._owner_changed)
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

    def _watch_dependents(self, resource: Resource) -> None:
        def changed(old: Object | None, new: Object | None) -> None:
            if old is None and new is not None and set(_owner_uids(new)) - self._alive:
                self.queue.add(f"{resource.plural}/{key_of(new)}")

        self.world.informer(resource).subscribe(changed)

    async def sync(self, key: str) -> None:
        plural, name = key.split("/", 1)
        resource = next(each for each in DEPENDENTS if each.plural == plural)
        obj = self.world.informer(resource).store.get(name)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return
        owners = obj["metadata"].get("ownerReferences") or ()
        for owner in owners:
            if owner["uid"] in self._alive or await self._exists(obj, owner):
                return
        metadata = obj["metadata"]
        if owners:
            try:
                await self.client.delete(
                    resource, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                )
            except NotFound:
                return

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


def _owner_uids(obj: Object) -> Iterable[str]:
    return [str(owner["uid"]) for owner in obj["metadata"].get("ownerReferences") or ()]
