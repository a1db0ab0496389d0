"""EndpointSlice mirroring: hand-written Endpoints of Services without a selector, as slices (KEP-0752)."""

from __future__ import annotations

from ipaddress import ip_address

from testbed.controllers.base import Controller, Object, World, owned_by
from testbed.controllers.endpointslice import MANAGED_BY, SERVICE_NAME, slice_owner, write_slices
from testbed.controllers.slices import Group
from testbed.model.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
NOT_COPIED = {SKIP, MANAGED_BY, SERVICE_NAME}


class EndpointSliceMirroring(Controller):
    name = "endpointslicemirroring"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.slices = world.index(ENDPOINT_SLICES, "mirror", lambda each: slice_owner(MANAGER, each))
        self.watch(ENDPOINTS)
        self.watch(SERVICES)
        self.watch(ENDPOINT_SLICES, lambda each: slice_owner(MANAGER, each))

    async def sync(self, key: str) -> None:
        service = self.world.informer(SERVICES).store.get(key)
        endpoints = self.world.informer(ENDPOINTS).store.get(key)
        groups: list[Group] = []
        metadata: Object = {"labels": {}}
        if service and endpoints and not service["spec"].get("selector") and not _is_skipped(endpoints):
            groups = mirrored(endpoints)
            labels = endpoints["metadata"].get("labels") or {}
            metadata = {
                "generateName": f"{endpoints['metadata']['name']}-",
                "namespace": endpoints["metadata"]["namespace"],
                "labels": {name: value for name, value in labels.items() if name not in NOT_COPIED}
                | {SERVICE_NAME: endpoints["metadata"]["name"], MANAGED_BY: MANAGER},
                "ownerReferences": [owned_by(endpoints, ENDPOINTS)],
            }
        await write_slices(self.world, self.slices[key], groups, metadata)


def _is_skipped(endpoints: Object) -> bool:
    metadata = endpoints["metadata"]
    skip = (metadata.get("labels") or {}).get(SKIP) == "true"
    return skip or LEADER in (metadata.get("annotations") or {})


def mirrored(endpoints: Object) -> list[Group]:
    """The groups of slices that say what the Endpoints say: one for each subset and address family."""
    groups: dict[str, Group] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for listed, ready in (("addresses", True), ("notReadyAddresses", False)):
            for entry in subset.get(listed) or ():
                family = f"IPv{ip_address(entry['ip']).version}"
                group = Group(family, ports, [])
                groups.setdefault(group.key, group).endpoints.append(_endpoint(entry, ready))
    return list(groups.values())


def _endpoint(entry: Object, ready: bool) -> Object:
    made: Object = {"addresses": [entry["ip"]], "conditions": {"ready": ready}}
    return made | {name: entry[name] for name in ("hostname", "nodeName", "targetRef") if entry.get(name)}
