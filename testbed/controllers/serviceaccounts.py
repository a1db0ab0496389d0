"""What every namespace has: the ServiceAccount `default`, and the cluster's authority to trust."""

from __future__ import annotations

from collections.abc import Callable

from testbed.client import AlreadyExists, ApiError, NotFound, key_of
from testbed.controllers.base import Controller, Object, World
from testbed.model.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Resource

ACCOUNT = "default"
AUTHORITY = "kube-root-ca.crt"
_ABOUT = "Contains a CA bundle that can be used to verify the kube-apiserver"


class NamespaceContents(Controller):
    """Keys are namespaces."""

    name = "serviceaccount"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watch(NAMESPACES)
        for resource, name in ((SERVICE_ACCOUNTS, ACCOUNT), (CONFIG_MAPS, AUTHORITY)):
            self.watch(resource, _namespace_of(name))

    async def sync(self, key: str) -> None:
        namespace = self.world.informer(NAMESPACES).store.get(key)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return
        await self._ensure(SERVICE_ACCOUNTS, key, {"metadata": {"name": ACCOUNT, "namespace": key}})
        if self.client.access.authority:
            about = {"kubernetes.io/description": _ABOUT}
            metadata = {"name": AUTHORITY, "namespace": key, "annotations": about}
            obj: Object = {"metadata": metadata, "data": {"ca.crt": self.client.access.authority}}
            await self._ensure(CONFIG_MAPS, key, obj)

    async def _ensure(self, resource: Resource, namespace: str, obj: Object) -> None:
        held = self.world.informer(resource).store.get(key_of(obj))
        if held is not None and held.get("data") == obj.get("data"):
            return
        try:
            if held is None:
                await self.client.create(resource, obj)
            else:
                await self.client.update(resource, {**held, "data": obj["data"]})
        except (AlreadyExists, NotFound):
            return  # made meanwhile, or the namespace is gone
        except ApiError as error:
            if error.code != 403:  # the namespace is ending
                raise


def _namespace_of(name: str) -> Callable[[Object], list[str]]:
    return lambda obj: [obj["metadata"]["namespace"]] if obj["metadata"]["name"] == name else []
