"""What controllers share: one informer per kind, indexes over them, and the shape of a controller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from testbed.client import Client, Informer, key_of
from testbed.client.events import Recorder
from testbed.controllers.queue import Queue
from testbed.model.families import Network
from testbed.model.resources import Resource

Object = dict[str, Any]

WRITES_AT_ONCE = 16
CATCH_UP_SECONDS = 5.0
"""How long a controller waits to see its own write; then it goes on, and a later event puts it right."""


class Index:
    """The objects of an informer grouped by what `groups(obj)` gives, kept as they change."""

    def __init__(self, informer: Informer, groups: Callable[[Object], Iterable[str]]) -> None:
        self._groups = groups
        self._members: dict[str, dict[str, Object]] = {}
        informer.subscribe(self._change)

    def __getitem__(self, group: str) -> list[Object]:
        return list(self._members.get(group, {}).values())

    def _change(self, old: Object | None, new: Object | None) -> None:
        for group in self._groups(old) if old else ():
            members = self._members.get(group)
            if members is not None and old:
                members.pop(key_of(old), None)
                if not members:
                    del self._members[group]
        for group in self._groups(new) if new else ():
            if new:
                self._members.setdefault(group, {})[key_of(new)] = new


class World:
    """The cluster as the controllers see it, and what they write it with."""

    def __init__(self, client: Client, cluster_cidrs: Sequence[Network], grace_period: float) -> None:
        self.client = client
        self.cluster_cidrs = cluster_cidrs
        self.node_grace_period = grace_period
        self.events = Recorder(client, "controller-manager")
        self._informers: dict[Resource, Informer] = {}
        self._indexes: dict[tuple[Resource, str], Index] = {}
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    def informer(self, resource: Resource) -> Informer:
        """The one informer of a kind."""
        if resource not in self._informers:
            self._informers[resource] = Informer(self.client, resource)
        return self._informers[resource]

    def index(self, resource: Resource, name: str, groups: Callable[[Object], Iterable[str]]) -> Index:
        """The one index of that name over a kind; make it before subscribing, so that it is ahead of you."""
        if (resource, name) not in self._indexes:
            self._indexes[resource, name] = Index(self.informer(resource), groups)
        return self._indexes[resource, name]

    def by_namespace(self, resource: Resource) -> Index:
        return self.index(resource, "namespace", lambda obj: (str(obj["metadata"]["namespace"]),))

    def by_controller(self, resource: Resource) -> Index:
        """Grouped by the uid of the controlling owner."""
        return self.index(resource, "controller", lambda obj: [o["uid"] for o in [controller(obj)] if o])

    async def run_informers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until every informer has its first list."""
        for informer in self._informers.values():
            await informer.synced.wait()

    async def write(self, calls: Iterable[Coroutine[Any, Any, Object]]) -> list[Object]:
        """Run API calls, some at a time. All are tried; then the first failure is raised."""

        async def one(call: Coroutine[Any, Any, Object]) -> Object:
            async with self._writes:
                return await call

        results = await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def catch_up(self, resource: Resource, written: Iterable[Object]) -> None:
        """Wait until the informer of the kind has seen these writes, so that they are not done twice."""
        versions = [int(obj["metadata"].get("resourceVersion") or 0) for obj in written if "metadata" in obj]
        if not versions:
            return
        informer, latest = self.informer(resource), max(versions)
        deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
        while int(informer.resource_version or 0) < latest:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.002)


class Controller:
    """A queue of keys and `sync(key)`, which brings one object to what it should be. Twice does no harm."""

    name = ""
    workers = 8

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.client
        self.queue = Queue(self.name, self.sync, self.workers)

    async def sync(self, key: str) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        await self.queue.run()

    def watch(self, resource: Resource, keys: Callable[[Object], Iterable[str]] | None = None) -> None:
        """Queue `keys(obj)` (default: its own key) of every object of the kind that changes."""

        def changed(old: Object | None, new: Object | None) -> None:
            for obj in (old, new):
                if obj is not None:
                    for key in [key_of(obj)] if keys is None else keys(obj):
                        self.queue.add(key)

        self.world.informer(resource).subscribe(changed)


def controller(obj: Object) -> Object | None:
    """The owner reference of the object's controlling owner."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def controller_key(obj: Object, kind: str) -> list[str]:
    """The key of the controlling owner, if it is of that kind."""
    owner = controller(obj)
    return [f"{obj['metadata']['namespace']}/{owner['name']}"] if owner and owner["kind"] == kind else []


def owned_by(owner: Object, resource: Resource) -> Object:
    """An owner reference that makes `owner` the controller."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
