"""Routes to the Pods of other nodes, kept as nodes come, change and go.

A node on a segment that this one is on too is the gateway to its own Pods (host-gw): nothing is wrapped. Any
other is reached through VXLAN (RFC 7348), a tunnel end on each node with nothing to learn: addresses, MACs
and routes all follow from the Node objects. What is set here bears a protocol number of its own, so that
nothing else on the machine is touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from testbed.client import Client, Informer
from testbed.kernel import link
from testbed.model.families import mac_of
from testbed.model.resources import NODES

log = logging.getLogger(__name__)
Object = dict[str, Any]

PROTOCOL = 0x7B
"""rtm_protocol of our routes (rtnetlink(7)): a number that no routing daemon uses."""

TUNNEL, TUNNEL_ID, TUNNEL_PORT = "vxlan.pods", 1, 4789
ONLINK, ITSELF = 4, 2
"""RTNH_F_ONLINK: the gateway is on the link, though no address says so. NTF_SELF: the tunnel's own table."""
OVERHEAD = 50
"""Bytes that VXLAN over IPv4 adds to a packet."""


@dataclass(frozen=True)
class Peer:
    """Another node: its own address, and the range of its Pods."""

    address: IPv4Address
    pods: IPv4Network

    @property
    def mac(self) -> str:
        """That of its tunnel end: known to all without asking."""
        return mac_of(self.address).hex(":")

    @property
    def gateway(self) -> IPv4Address:
        """The address of its tunnel end: the first of its Pod range, which no Pod gets."""
        return self.pods.network_address


def peer_of(node: Object) -> Peer | None:
    """What is known of a node; None while it has no address or no Pod range."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    internal = [each["address"] for each in addresses if each["type"] == "InternalIP"]
    ranges = node["spec"].get("podCIDRs") or [node["spec"].get("podCIDR")]
    v4 = [text for text in ranges if text and ":" not in text]
    own = [text for text in internal if ":" not in text]
    return Peer(IPv4Address(own[0]), IPv4Network(v4[0])) if v4 and own else None


class PodRoutes:
    """`run()` it as a task on the node `name`. `choice`: auto, host-gw or vxlan."""

    def __init__(self, client: Client, name: str, choice: str = "auto") -> None:
        self._informer = Informer(client, NODES)
        self._name, self._choice = name, choice
        self._changed = asyncio.Event()
        # pyroute2 runs a loop of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="routes")

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._informer.subscribe(lambda old, new: self._changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            await self._informer.synced.wait()
            while True:
                self._changed.clear()
                peers = {node["metadata"]["name"]: peer_of(node) for node in self._informer.store.values()}
                me = peers.pop(self._name, None)
                try:
                    if me:
                        others = [peer for peer in peers.values() if peer]
                        await loop.run_in_executor(self._thread, apply, me, others, self._choice)
                except (NetlinkError, OSError) as error:
                    log.warning("routes to Pods: %s", error)
                await self._changed.wait()


def apply(me: Peer, peers: Iterable[Peer], choice: str = "auto") -> None:
    """Set the routes to the Pods of `peers`, and remove those to nodes that are gone."""
    with IPRoute() as ip:
        wanted: dict[str, Mapping[str, Any]] = {}
        tunnel = 0
        for peer in peers:
            if choice == "host-gw" or (choice == "auto" and on_link(ip, peer.address)):
                wanted[str(peer.pods)] = {"gateway": str(peer.address)}
                continue
            tunnel = tunnel or _tunnel(ip, me)
            _through(ip, tunnel, peer)
            wanted[str(peer.pods)] = {"gateway": str(peer.gateway), "oif": tunnel, "flags": ONLINK}
        held = _held(ip)
        for destination in held.keys() - wanted.keys():
            with suppress(NetlinkError):
                ip.route("del", dst=destination, proto=PROTOCOL)
        for destination, way in wanted.items():
            if held.get(destination) != way["gateway"]:
                log.info("Pods %s: through %s", destination, way["gateway"])
                ip.route("replace", dst=destination, proto=PROTOCOL, **way)
        if not tunnel:
            link.delete(ip, TUNNEL)


def on_link(ip: Any, address: IPv4Address) -> bool:
    """Whether the kernel reaches `address` without a gateway."""
    try:
        found = ip.route("get", dst=str(address))
    except NetlinkError:
        return False
    return all(route.get_attr("RTA_GATEWAY") is None for route in found)


def _held(ip: Any) -> dict[str, str]:
    """Our routes that are there: destination → gateway."""
    return {
        f"{route.get_attr('RTA_DST')}/{route['dst_len']}": str(route.get_attr("RTA_GATEWAY"))
        for route in ip.get_routes(family=2, proto=PROTOCOL)
        if route["proto"] == PROTOCOL
    }


def _tunnel(ip: Any, me: Peer) -> int:
    """The tunnel end of this node, made when missing. Its index."""
    found = link.find(ip, TUNNEL)
    if found:
        return found
    outer = next(iter(ip.get_addr(address=str(me.address))))
    mtu = ip.get_links(outer["index"])[0].get_attr("IFLA_MTU")
    ip.link(
        "add",
        ifname=TUNNEL,
        kind="vxlan",
        vxlan_id=TUNNEL_ID,
        vxlan_port=TUNNEL_PORT,
        vxlan_local=str(me.address),
        vxlan_learning=False,
        address=me.mac,
        mtu=mtu - OVERHEAD,
    )
    number = link.index(ip, TUNNEL)
    link.address(ip, number, f"{me.gateway}/32")
    link.up(ip, number)
    return number


def _through(ip: Any, tunnel: int, peer: Peer) -> None:
    """Where the peer's tunnel end is: its MAC for its inner address, its outer address for the MAC."""
    ip.neigh("replace", dst=str(peer.gateway), lladdr=peer.mac, ifindex=tunnel, state="permanent")
    ip.fdb("replace", lladdr=peer.mac, dst=str(peer.address), ifindex=tunnel, flags=ITSELF)
