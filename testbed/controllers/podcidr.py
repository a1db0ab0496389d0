"""Node IPAM: a range of each cluster CIDR for each node that has none."""

from __future__ import annotations

from testbed.controllers.base import Controller, World
from testbed.errors import UsageError
from testbed.model.families import Network
from testbed.model.resources import NODES
from testbed.model.topology import NODE_PREFIX


def free_range(cluster_cidr: Network, taken: set[str]) -> str:
    """The first /24 (/64 of an IPv6 one) of the cluster CIDR that nobody has. Raises UsageError when all are
    taken."""
    prefix = max(NODE_PREFIX[cluster_cidr.version], cluster_cidr.prefixlen)
    for network in cluster_cidr.subnets(new_prefix=prefix):
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
        taken = {cidr for each in nodes.values() for cidr in each["spec"].get("podCIDRs") or ()}
        chosen = [free_range(cidr, taken) for cidr in self.world.cluster_cidrs]
        patch = {"spec": {"podCIDR": chosen[0], "podCIDRs": chosen}}
        await self.world.catch_up(NODES, [await self.client.patch(NODES, key, None, patch)])
