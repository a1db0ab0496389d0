"""EndpointSlices: for each Service with a selector, its Pods with their conditions."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.client import key_of
from testbed.controllers import topology
from testbed.controllers.backends import address, by_ports, endpoint, families
from testbed.controllers.base import Object, World, owned_by
from testbed.controllers.endpoints import HEADLESS, SelectorController
from testbed.controllers.slices import Group, fit
from testbed.controllers.triggers import LAST_CHANGE, TriggerTimes
from testbed.model.resources import ENDPOINT_SLICES, NODES, SERVICES

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


def slice_owner(manager: str, each: Object) -> list[str]:
    """The key of the Service that a slice belongs to, if `manager` made the slice."""
    labels = each["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != manager or not labels.get(SERVICE_NAME):
        return []
    return [f"{each['metadata']['namespace']}/{labels[SERVICE_NAME]}"]


class EndpointSlices(SelectorController):
    name = "endpointslice"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.slices = world.index(ENDPOINT_SLICES, "selector", lambda each: slice_owner(MANAGER, each))
        self.watch(ENDPOINT_SLICES, lambda each: slice_owner(MANAGER, each))
        self.triggers = TriggerTimes()
        world.informer(NODES).subscribe(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """The shares of zones follow the nodes."""
        if topology.shares([old] if old else []) != topology.shares([new] if new else []):
            for service in self.world.informer(SERVICES).store.values():
                if topology.is_wanted(service):
                    self.queue.add(key_of(service))

    async def sync(self, key: str) -> None:
        service = self.service(key)
        if service is None or service["metadata"].get("deletionTimestamp"):
            self.triggers.forget(key)
            return  # the slices have an owner and go with it
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        labels = {**(service["metadata"].get("labels") or {})}
        labels |= {SERVICE_NAME: service["metadata"]["name"], MANAGED_BY: MANAGER}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        metadata = {
            "generateName": f"{service['metadata']['name']}-",
            "namespace": service["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owned_by(service, SERVICES)],
        }
        pods = self.selected(service)
        if changed := self.triggers.next(key, service, pods):
            metadata["annotations"] = {LAST_CHANGE: changed}
        await write_slices(self.world, self.slices[key], self._groups(service, pods), metadata)

    def _groups(self, service: Object, pods: Sequence[Object]) -> list[Group]:
        nodes = self.world.informer(NODES).store
        zones = {
            name: (node["metadata"].get("labels") or {}).get(topology.ZONE, "")
            for name, node in nodes.items()
        }
        groups = []
        for family in families(service):
            here = [pod for pod in pods if address(pod, family)]
            for ports, members in by_ports(service, here):
                made = [endpoint(service, pod, family, zones) for pod in members]
                if topology.is_wanted(service):
                    made = topology.hinted(made, topology.shares(nodes.values()))
                groups.append(Group(family, ports, made))
            if not here:
                groups.append(Group(family, [], []))
        return groups


async def write_slices(
    world: World, held: Sequence[Object], groups: Sequence[Group], metadata: Object
) -> None:
    """Make the `held` slices into the `groups`, new ones first, so that no endpoint is missing in between."""
    changes, client = fit(held, groups, metadata), world.client
    written = await world.write(
        [client.create(ENDPOINT_SLICES, each) for each in changes.create]
        + [client.update(ENDPOINT_SLICES, each) for each in changes.update]
    )
    await world.write(
        client.delete(ENDPOINT_SLICES, each["metadata"]["name"], each["metadata"]["namespace"])
        for each in changes.delete
    )
    await world.catch_up(ENDPOINT_SLICES, written)
