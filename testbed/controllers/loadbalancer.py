"""Load balancers: an address of the pool for each Service of type LoadBalancer, told in its status.

The nodes themselves balance: whatever is sent to the address by way of any of them is theirs (ipMode VIP).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, ip_address

from testbed.controllers.base import Controller, Object, World
from testbed.model.resources import SERVICES
from testbed.model.topology import LOAD_BALANCERS

VIP = "VIP"


def ingress(service: Object) -> list[Object]:
    """Where the Service's load balancer takes traffic in, as its status says."""
    status = service.get("status") or {}
    return list((status.get("loadBalancer") or {}).get("ingress") or ())


def is_ours(service: Object) -> bool:
    """Whether it is for this controller to give the Service an address (KEP-1959: another class is not)."""
    spec, metadata = service["spec"], service["metadata"]
    wanted = spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")
    return bool(wanted and not metadata.get("deletionTimestamp"))


def choose(service: Object, taken: Iterable[str], pool: IPv4Network) -> str:
    """An address that nobody has, the one that `spec.loadBalancerIP` asks for if that is one; "" if none."""
    held = set(taken)
    asked = service["spec"].get("loadBalancerIP") or ""
    if asked:
        return asked if ip_address(asked) in pool and asked not in held else ""
    return next((str(each) for each in pool.hosts() if str(each) not in held), "")


class LoadBalancers(Controller):
    name = "service-lb"
    workers = 1

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watch(SERVICES)

    async def sync(self, key: str) -> None:
        services = self.world.informer(SERVICES).store
        service = services.get(key)
        if service is None or service["spec"].get("loadBalancerClass"):
            return
        held = ingress(service)
        if not is_ours(service):
            if any(_from_pool(one) for one in held):
                await self._tell(service, None)
            return
        if held:
            return
        taken = [str(one.get("ip")) for each in services.values() for one in ingress(each)]
        chosen = choose(service, taken, LOAD_BALANCERS)
        if not chosen:
            asked = service["spec"].get("loadBalancerIP") or f"every address of {LOAD_BALANCERS}"
            message = f"Error syncing load balancer: {asked} is taken or not in {LOAD_BALANCERS}"
            await self.world.events.warn(service, "SyncLoadBalancerFailed", message)
            return
        await self._tell(service, [{"ip": chosen, "ipMode": VIP}])
        await self.world.events.normal(service, "EnsuredLoadBalancer", "Ensured load balancer")

    async def _tell(self, service: Object, found: list[Object] | None) -> None:
        """Write the status, and wait to see it, lest the next Service gets the same address."""
        metadata = service["metadata"]
        patch = {"status": {"loadBalancer": {"ingress": found}}}
        written = await self.client.patch(
            SERVICES, metadata["name"], metadata["namespace"], patch, subresource="status"
        )
        await self.world.catch_up(SERVICES, [written])


def _from_pool(one: Object) -> bool:
    return bool(one.get("ip")) and IPv4Address(one["ip"]) in LOAD_BALANCERS
