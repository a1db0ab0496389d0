"""Endpoints: for each Service with a selector, the addresses of its Pods."""

from __future__ import annotations

from testbed.client import NotFound, key_of
from testbed.controllers.backends import may_serve, selects, subsets
from testbed.controllers.base import Controller, Object, World
from testbed.model.resources import ENDPOINTS, PODS, SERVICES

HEADLESS = "service.kubernetes.io/headless"


class SelectorController(Controller):
    """Shared by Endpoints and EndpointSlice: a Service is synced when it or a Pod it selects changes."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pods = world.by_namespace(PODS)
        self.services = world.by_namespace(SERVICES)
        self.watch(SERVICES)
        world.informer(PODS).subscribe(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        namespace = str((new or old or {})["metadata"]["namespace"])
        for service in self.services[namespace]:
            if (old and selects(service, old)) or (new and selects(service, new)):
                self.queue.add(key_of(service))

    def service(self, key: str) -> Object | None:
        return self.world.informer(SERVICES).store.get(key)

    def selected(self, service: Object) -> list[Object]:
        """The Pods behind a Service that have an address, in a stable order."""
        pods = self.pods[service["metadata"]["namespace"]]
        found = [pod for pod in pods if selects(service, pod) and may_serve(pod)]
        return sorted(found, key=key_of)


class EndpointsController(SelectorController):
    name = "endpoints"

    async def sync(self, key: str) -> None:
        service, held = self.service(key), self.world.informer(ENDPOINTS).store.get(key)
        namespace, name = key.split("/")
        if service is None:
            if held:
                await self._delete(held)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        wanted = subsets(service, self.selected(service))
        labels = dict(service["metadata"].get("labels") or {})
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        if held is None:
            metadata = {"name": name, "namespace": namespace, "labels": labels}
            made = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": wanted}
            written = await self.client.create(ENDPOINTS, made)
        elif (held.get("subsets") or []) != wanted or (held["metadata"].get("labels") or {}) != labels:
            metadata = {**held["metadata"], "labels": labels}
            written = await self.client.update(ENDPOINTS, {**held, "metadata": metadata, "subsets": wanted})
        else:
            return
        await self.world.catch_up(ENDPOINTS, [written])

    async def _delete(self, held: Object) -> None:
        metadata = held["metadata"]
        try:
            await self.client.delete(ENDPOINTS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            return
