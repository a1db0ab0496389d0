"""Namespace deletion: everything in it goes, then the namespace itself."""

from __future__ import annotations

import logging

from testbed.client import ApiError, NotFound
from testbed.controllers.base import Controller, Object, World
from testbed.model import resources
from testbed.model.resources import NAMESPACES, Resource

log = logging.getLogger(__name__)

AGAIN = 0.2
"""Seconds until the next look at a namespace whose Pods are still ending."""


class NamespaceController(Controller):
    name = "namespace"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watch(NAMESPACES)

    async def sync(self, key: str) -> None:
        namespace = self.world.informer(NAMESPACES).store.get(key)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return
        left = 0
        for resource in resources.ALL:
            if resource.namespaced:
                left += await self._empty(resource, key)
        if left:
            self.queue.add(key, AGAIN)
            return
        body = {**namespace, "spec": {"finalizers": []}}
        try:
            await self.client.update(NAMESPACES, body, subresource="finalize")
        except NotFound:
            return

    async def _empty(self, resource: Resource, namespace: str) -> int:
        """Delete what is there of a kind, and say how much was found."""
        try:
            found = (await self.client.list(resource, namespace)).items
        except NotFound:  # a kind that this API server does not have
            return 0
        await self.world.write(
            self._delete(resource, each) for each in found if not each["metadata"].get("deletionTimestamp")
        )
        return len(found)

    async def _delete(self, resource: Resource, obj: Object) -> Object:
        metadata = obj["metadata"]
        try:
            return await self.client.delete(resource, metadata["name"], metadata["namespace"])
        except NotFound:
            return {}
        except ApiError as error:
            log.warning("namespace %s: %s", metadata["namespace"], error)
            return {}
