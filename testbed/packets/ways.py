"""The ways of the scene's packets: routes, what kernels tell of losses, and who the senders of cases are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from testbed.kernel import sysctl
from testbed.model.offers import CLIENT, FIRST, SECOND, SERVERS, VISITORS, WAYS
from testbed.model.oracle import Sender, World
from testbed.model.topology import LOAD_BALANCERS, UNDERLAYS, ClusterSpec
from testbed.packets import scene
from testbed.packets.matrix import BRIDGE, Place
from testbed.packets.site import Site

UNLIMITED = {"net.ipv4.icmp_ratelimit": 0, "net.ipv4.icmp_ratemask": 0, "net.ipv6.icmp.ratelimit": 0}
"""Of a node: no ICMP error is held back."""
MTU_SECONDS = 1
"""How long a sender remembers that the way to an address is narrow; meanwhile nobody tells it again."""
FORGETFUL = {f"net.{kind}.route.mtu_expires": MTU_SECONDS for kind in ("ipv4", "ipv6")}
PROTOCOL = "217"
"""The number that our routes bear (rt_protos of iproute2 has no name for it)."""


@dataclass(frozen=True)
class Links:
    """`uplinks`: by machine, the one that leads to the others. `beyond`: the networks that nodes send to the
    client: what no rule stops goes there, and it is the client who sees it.
    """

    uplinks: Mapping[str, str]
    beyond: tuple[str, ...]


def beyond(spec: ClusterSpec) -> tuple[str, ...]:
    """The networks that the scene's packets may go to and nobody is in, and those of the visitors."""
    networks = [*spec.service_cidrs, *LOAD_BALANCERS.values(), *UNDERLAYS.values()]
    networks += [network for each in WAYS.values() for network in each.values()]
    return tuple(str(network) for network in networks if network.version in spec.families)


def of_client(uplink: str) -> dict[str, int]:
    """The client sends nothing back; and without redirects it stays with the node that a case is about, even
    if there is a shorter way."""
    redirects = {
        f"net.{kind}.conf.{link}.accept_redirects": 0 for kind in ("ipv4", "ipv6") for link in ("all", uplink)
    }
    return {"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0} | redirects


def prepare(site: Site, world: World, places: Mapping[str, Place], links: Links) -> None:
    """What the matrix needs besides a cluster: no ICMP error is held back, and the outside client has a way
    to the Service ranges and the load balancers, through the first node, and to external addresses.

    The way to some Pods is narrow, and nobody remembers for long that it is. `clear` takes it all back but
    for sysctls.
    """
    for place in places.values():
        place.ground.call(forget)
    for name, lines in preparations(site.spec, world, links).items():
        site.machine(name).run(["sh", "-ec", "\n".join(lines)])


def forget() -> None:
    """Here, a narrow way is remembered for a second."""
    for name, value in FORGETFUL.items():
        sysctl.put(name, value)


def preparations(spec: ClusterSpec, world: World, links: Links) -> dict[str, list[str]]:
    """By machine, the commands that `prepare` runs: in one call each, since one over ssh takes its time."""
    nodes = {node.name: node for node in spec.workers}
    found: dict[str, list[str]] = {name: [] for name in (CLIENT, *nodes)}
    for end, mtu in world.path_mtus.items():
        found[SECOND].append(_route(ip_address(end).version, end, f"dev {BRIDGE} mtu {mtu}"))
    ways = [(network, FIRST) for network in (*spec.service_cidrs, *LOAD_BALANCERS.values())]
    ways += [(network, node) for node, networks in WAYS.items() for network in networks.values()]
    for network, name in ways:
        if network.version in spec.families:
            via = nodes[name].address_of(network.version)
            found[CLIENT].append(_route(network.version, str(network), f"via {via}"))
    for name in nodes:
        found[name].append(_sysctls(UNLIMITED))
        for address in spec.client_addresses:
            for network_ in links.beyond:
                if network_ == "default" or (":" in network_) == (address.version == 6):
                    way = f"via {address} dev {links.uplinks[name]}"
                    found[name].append(_route(address.version, network_, way))
    # Visitors' addresses are for who asks for them.
    visitors = [one for version in spec.families for one in VISITORS[version]]
    link = links.uplinks[CLIENT]
    rest = {4: f"/32 dev {link}", 6: f"/128 dev {link} nodad preferred_lft 0"}
    found[CLIENT] += [f"ip address replace {one}{rest[one.version]}" for one in visitors]
    found[CLIENT].append(_sysctls(of_client(link)))
    return found


def clear(site: Site, links: Links) -> None:
    """Take the routes and addresses away again."""
    flush = [f"ip -{version} route flush proto {PROTOCOL}" for version in site.spec.families]
    for name in (CLIENT, *(node.name for node in site.spec.workers)):
        site.machine(name).run(["sh", "-c", "; ".join(flush)])
    link = links.uplinks[CLIENT]
    leave = [f"ip address flush dev {link} to {UNDERLAYS[version]}" for version in site.spec.families]
    site.machine(CLIENT).run(["sh", "-c", "; ".join(leave)])


def _route(version: int, network: str, way: str) -> str:
    return f"ip -{version} route replace {network} {way} proto {PROTOCOL}"


def _sysctls(values: Mapping[str, int]) -> str:
    return f"sysctl -qw {' '.join(f'{name}={value}' for name, value in values.items())}"


def senders(world: World, name: str) -> tuple[Sender, ...]:
    """Who a Pod, node or the client of the scene is, in each family."""
    if name == CLIENT:
        return tuple(Sender(address) for address in world.spec.client_addresses)
    if home := SERVERS.get(name):
        pod = scene.pod_of(world, name)
        return tuple(Sender(ip_address(each["ip"]), home) for each in pod["status"]["podIPs"])
    node = next(one for one in world.spec.nodes if one.name == name)
    return tuple(Sender(address, name, host=True) for address in node.addresses)
