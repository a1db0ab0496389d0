"""The ways of the scene's packets: routes, what kernels tell of losses, and who the senders of cases are."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from testbed.kernel import sysctl
from testbed.kernel.namespaces import inside
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.lab.network import INTERFACE
from testbed.model.families import Address
from testbed.model.offers import CLIENT, FIRST, SECOND, SERVERS, VISITORS, WAYS
from testbed.model.oracle import Sender, World
from testbed.model.topology import LOAD_BALANCERS
from testbed.packets import scene
from testbed.packets.matrix import BRIDGE, Place

UNLIMITED = ("net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0")
MTU_SECONDS = 1
"""How long a sender remembers that the way to an address is narrow; meanwhile nobody tells it again."""
NO_REDIRECTS = tuple(
    f"net.{kind}.conf.{link}.accept_redirects=0" for kind in ("ipv4", "ipv6") for link in ("all", INTERFACE)
)


def prepare(cluster: Cluster, world: World, places: Mapping[str, Place]) -> None:
    """What the matrix needs besides a cluster: no ICMP error is held back, and the outside client has a way
    to the Service ranges and the load balancers, through the first node, and to external addresses.

    The way to some Pods is narrow, and nobody remembers for long that it is.
    """
    for end, mtu in world.path_mtus.items():
        way = ["dev", BRIDGE, "mtu", str(mtu)]
        cluster.machine(SECOND).run(["ip", "route", "replace", end, *way])
    for place in places.values():
        with inside(place.netns):
            for kind in ("ipv4", "ipv6"):
                sysctl.put(f"net.{kind}.route.mtu_expires", MTU_SECONDS)
    client, nodes = cluster.machine(CLIENT), {node.name: node for node in cluster.spec.nodes}
    ways = [(network, FIRST) for network in (*cluster.spec.service_cidrs, *LOAD_BALANCERS.values())]
    ways += [(network, node) for node, networks in WAYS.items() for network in networks.values()]
    for network, name in ways:
        if network.version in cluster.spec.families:
            _route(client, str(network), nodes[name].address_of(network.version))
    # What no rule stops goes to the default gateway: it is the client, who sees it.
    for each in nodes:
        machine = cluster.machine(each)
        machine.run(["sysctl", "-qw", *UNLIMITED])
        for address in cluster.spec.client_addresses:
            _route(machine, "default", address, "dev", INTERFACE)
    # Without forwarding it does not send it back there, and without redirects it stays with the node that the
    # case is about, though there is a shorter way. Visitors' addresses are for who asks for them.
    visitors = [one for version in cluster.spec.families for one in VISITORS[version]]
    rest = {4: f"/32 dev {INTERFACE}", 6: f"/128 dev {INTERFACE} nodad preferred_lft 0"}
    adding = [f"ip address add {one}{rest[one.version]}" for one in visitors]
    client.run(["sh", "-c", "; ".join(adding)])
    client.run(["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0", *NO_REDIRECTS])


def _route(machine: Machine, network: str, via: Address, *more: str) -> None:
    machine.run(["ip", f"-{via.version}", "route", "replace", network, "via", str(via), *more])


def places(cluster: Cluster, world: World) -> dict[str, Place]:
    """The Pods, nodes and client of the scene by the names that cases use."""
    found = {}
    for node in cluster.spec.workers:
        senders = (Sender(address, node.name, host=True) for address in node.addresses)
        found[node.name] = Place(cluster.machine(node.name).netns, tuple(senders))
    for name, node_name in SERVERS.items():
        pod = scene.pod_of(world, name)
        senders = (Sender(ip_address(each["ip"]), node_name) for each in pod["status"]["podIPs"])
        found[name] = Place(cluster.machine(node_name).pod_netns(pod), tuple(senders))
    outside = tuple(Sender(address) for address in cluster.spec.client_addresses)
    found[CLIENT] = Place(cluster.machine(CLIENT).netns, outside)
    return found
