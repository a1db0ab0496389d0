"""Node IPAM: a range of the cluster CIDR for each node that has none."""

from __future__ import annotations

from ipaddress import IPv4Network

from testbed.controllers.base import Controller, World
from testbed.errors import UsageError
from testbed.model.resources import NODES
from testbed.model.topology import NODE_PREFIX


def free_range(cluster_cidr: IPv4Network, taken: set[str]) -> str:
    """The first /24 of the cluster CIDR that nobody has. Raises UsageError when all are taken."""
    for network in cluster_cidr.subnets(new_prefix=max(NODE_PREFIX, cluster_cidr.prefixlen)):
        if str(network) not in taken:
            return str(network)
    raise UsageError(f"every Pod range of {cluster_cidr} is taken; use a larger --cluster-cidr")


class PodRanges(Controller):
    name = "nodeipam"
    workers = 1

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watch(NODES)

    async def sync(self, key: str) -> None:
        nodes = self.world.informer(NODES).store
        node = nodes.get(key)
        if node is None or node["spec"].get("podCIDR"):
            return
        taken = {each["spec"].get("podCIDR", "") for each in nodes.values()}
        chosen = free_range(self.world.cluster_cidr, taken)
        patch = {"spec": {"podCIDR": chosen, "podCIDRs": [chosen]}}
        await self.world.catch_up(NODES, [await self.client.patch(NODES, key, None, patch)])
