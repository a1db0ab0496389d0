"""Load balancers: an address of each of its families for a Service of type LoadBalancer, told in its status.

The nodes themselves balance: whatever is sent to the address by way of any of them is theirs (ipMode VIP).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from testbed.controllers.base import Controller, Object, World
from testbed.model.families import Network, family
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


def pools(service: Object) -> list[Network]:
    """Where its addresses come from, one for each of its families in their order."""
    wanted = service["spec"].get("ipFamilies") or ["IPv4"]
    return [pool for name in wanted for version, pool in LOAD_BALANCERS.items() if family(version) == name]


def choose(service: Object, taken: Iterable[str], pool: Network) -> str:
    """An address of the pool that nobody has, "" if there is none.

    It is the one that `spec.loadBalancerIP` asks for, if that is of this family.
    """
    held = set(taken)
    asked = service["spec"].get("loadBalancerIP") or ""
    if asked and ip_address(asked).version == pool.version:
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
        wanted = pools(service)
        kept = [one for one in held if any(_is_from(one, pool) for pool in wanted) or not _from_pool(one)]
        lacking = [pool for pool in wanted if not any(_is_from(one, pool) for one in kept)]
        if any(not _from_pool(one) for one in held) or (kept == held and not lacking):
            return  # told by somebody else, or complete
        taken = [str(one.get("ip")) for each in services.values() for one in ingress(each)]
        made = {pool: choose(service, taken, pool) for pool in lacking}
        if not all(made.values()):
            names = " and ".join(map(str, made))
            asked = service["spec"].get("loadBalancerIP") or f"every address of {names}"
            message = f"Error syncing load balancer: {asked} is taken or not in {names}"
            await self.world.events.warn(service, "SyncLoadBalancerFailed", message)
            return
        found = [*kept, *({"ip": chosen, "ipMode": VIP} for chosen in made.values())]
        order = [pool.version for pool in wanted]
        await self._tell(service, sorted(found, key=lambda one: order.index(ip_address(one["ip"]).version)))
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
    return any(_is_from(one, pool) for pool in LOAD_BALANCERS.values())


def _is_from(one: Object, pool: Network) -> bool:
    return bool(one.get("ip")) and ip_address(one["ip"]) in pool
