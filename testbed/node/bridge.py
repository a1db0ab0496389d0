"""The CNI plugin `testbed-bridge`: a Pod's veth pair to the node's bridge, its addresses and its routes.

Pods have single addresses (/32, /128), one of each range of the configuration, and reach everything, Pods on
their own node too, through the bridge's. So each packet passes the node's IP layer, where Service rules and
conntrack are, and a translated reply comes back the same way, with br_netfilter and without it.

Who is behind which address is told and not asked: the kernel's table of neighbours has room for 1,024 that it
found by asking, in all namespaces together, and none for more Pods than that.

Specification: https://www.cni.dev/docs/spec/ version 1.0.0.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.kernel import addresses, namespaces, rtnetlink, sysctl
from testbed.model.families import ANYWHERE, Address, Network, mac_of
from testbed.node import hostports
from testbed.node.ipam import GATEWAY, Addresses

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
INVALID_ENVIRONMENT, UNDECODABLE, INVALID_CONFIG, FAILED = 4, 6, 7, 100
"""Error codes; below 100 those of the specification."""

MTU = 1500


class PluginError(TestbedError):
    """`code` as the specification numbers errors."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Attachment:
    """One interface of one container, and the network it is to be in.

    `spared`: the networks in which the Pod is known under its own address, if elsewhere it is to speak as its
    node (`ipMasq`): its own range, and `nonMasqueradeCIDRs`, where the Pods of other nodes should be.
    """

    container: str
    netns: str
    interface: str
    bridge: str
    mtu: int
    hairpin: bool
    subnets: tuple[Network, ...]
    directory: Path
    ports: tuple[Mapping[str, Any], ...] = ()
    spared: tuple[Network, ...] = ()

    @property
    def host_end(self) -> str:
        """The name of the node's end of the pair: the same for ADD and DEL, at most 15 letters."""
        digest = hashlib.sha1(f"{self.container}/{self.interface}".encode(), usedforsecurity=False)
        return f"veth{digest.hexdigest()[:8]}"

    @property
    def gateways(self) -> list[Address]:
        """The bridge's address in each range."""
        return [subnet[GATEWAY] for subnet in self.subnets]

    @classmethod
    def parse(cls, environment: Mapping[str, str], config: Mapping[str, Any]) -> Attachment:
        """From the environment and the network configuration of a call. Raises PluginError."""
        missing = [name for name in ("CNI_CONTAINERID", "CNI_IFNAME") if not environment.get(name)]
        if missing:
            raise PluginError(INVALID_ENVIRONMENT, f"{' and '.join(missing)} must be set")
        try:
            ipam = config["ipam"]
            ranges = ipam.get("ranges") or [[{"subnet": ipam["subnet"]}]]
            subnets = tuple(ip_network(each[0]["subnet"]) for each in ranges)
            others = map(ip_network, config.get("nonMasqueradeCIDRs") or ())
            directory = Path(ipam.get("dataDir") or "/var/lib/cni/networks", config["name"])
            return cls(
                container=environment["CNI_CONTAINERID"],
                netns=environment.get("CNI_NETNS", ""),
                interface=environment["CNI_IFNAME"],
                bridge=config.get("bridge") or "cni0",
                mtu=int(config.get("mtu") or MTU),
                hairpin=bool(config.get("hairpinMode", True)),
                subnets=subnets,
                directory=directory,
                ports=tuple((config.get("runtimeConfig") or {}).get("portMappings") or ()),
                spared=(*subnets, *others) if config.get("ipMasq") else (),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            message = f"network configuration: {type(error).__name__}: {error}"
            raise PluginError(INVALID_CONFIG, message) from None


def add(wanted: Attachment) -> dict[str, Any]:
    """ADD: make the interface. The result as the specification has it. Undoes its work when it fails."""
    reserved = Addresses(wanted.directory, wanted.subnets).reserve(wanted.container, wanted.interface)
    try:
        with _opened(wanted.netns) as netns:
            bridge = _bridge(wanted)
            _node_end(wanted, reserved, bridge, netns)
            gateway = addresses.mac_of(wanted.bridge)
            with _inside(netns):
                _pod_end(wanted, reserved, gateway)
        hostports.add(wanted.host_end, wanted.ports, reserved, wanted.spared)
    except BaseException:
        delete(wanted)
        raise
    return {
        "interfaces": [
            {"name": wanted.bridge},
            {"name": wanted.host_end},
            {"name": wanted.interface, "sandbox": wanted.netns},
        ],
        "ips": [
            {"address": single(address), "gateway": str(gateway), "interface": 2}
            for address, gateway in zip(reserved, wanted.gateways, strict=True)
        ],
        "routes": [
            route
            for gateway in wanted.gateways
            for route in (
                {"dst": single(gateway)},
                {"dst": ANYWHERE[gateway.version], "gw": str(gateway)},
            )
        ],
        "dns": {},
    }


def delete(wanted: Attachment) -> None:
    """DEL: no trace is left. Content when there is nothing, the namespace included."""
    hostports.remove(wanted.host_end, wanted.ports, wanted.spared)
    rtnetlink.send([rtnetlink.removal(wanted.host_end)], but=(errno.ENODEV,))
    released = Addresses(wanted.directory, wanted.subnets).release(wanted.container, wanted.interface)
    if bridge := addresses.index_of(wanted.bridge):
        gone = [rtnetlink.no_neighbour(bridge, address) for address in released]
        rtnetlink.send(gone, but=(errno.ENOENT,))


def check(wanted: Attachment, result: Mapping[str, Any]) -> None:
    """CHECK: raises PluginError unless what ADD made is still there."""
    if not addresses.index_of(wanted.host_end):
        raise PluginError(FAILED, f"{wanted.host_end} is gone from the node")
    with _opened(wanted.netns) as netns, _inside(netns):
        held = {ip for family in (4, 6) for ip in addresses.on_interface(wanted.interface, family)}
    for entry in result.get("ips") or ():
        if entry["address"].partition("/")[0] not in held:
            raise PluginError(FAILED, f"{wanted.interface} does not have {entry['address']}")


def _bridge(wanted: Attachment) -> int:
    """The index of the node's bridge, which has the gateways' addresses; the first Pod makes it."""
    found = addresses.index_of(wanted.bridge)
    if found:
        return found
    # An address of its own, derived from the gateway's: it must not change as ports come and go.
    mac = mac_of(wanted.gateways[0])
    rtnetlink.send([rtnetlink.bridge(wanted.bridge, mtu=wanted.mtu, mac=mac)], but=(errno.EEXIST,))
    for name, value in (
        ("net.ipv4.ip_forward", 1),
        ("net.ipv6.conf.all.forwarding", 1),
        # Two Pods of a node talk through the gateway on purpose: no "there is a shorter way" from it.
        ("net.ipv4.conf.all.send_redirects", 0),
        (f"net.ipv4.conf.{wanted.bridge}.send_redirects", 0),
        # Everything is routed, so frames need not be shown to the IP tables a second time.
        ("net.bridge.bridge-nf-call-iptables", 0),
        ("net.bridge.bridge-nf-call-ip6tables", 0),
    ):
        with contextlib.suppress(FileNotFoundError):
            sysctl.put(name, value)
    index = socket.if_nametoindex(wanted.bridge)
    held = [
        rtnetlink.address(index, ip_interface(f"{gateway}/{subnet.prefixlen}"))
        for gateway, subnet in zip(wanted.gateways, wanted.subnets, strict=True)
    ]
    rtnetlink.send([*held, rtnetlink.up(index)], but=(errno.EEXIST,))
    return index


def _node_end(wanted: Attachment, reserved: Sequence[Address], bridge: int, netns: int) -> None:
    """The pair of links, and on the node who is behind it."""
    mac = mac_of(reserved[0])
    ends = (wanted.host_end, wanted.interface)
    rtnetlink.send([rtnetlink.veth(*ends, netns=netns, mtu=wanted.mtu, master=bridge, mac=mac)])
    rtnetlink.send(
        [
            *[rtnetlink.hairpin(wanted.host_end)] * wanted.hairpin,
            rtnetlink.behind(socket.if_nametoindex(wanted.host_end), mac),
            *(rtnetlink.neighbour(bridge, address, mac) for address in reserved),
        ]
    )


def _pod_end(wanted: Attachment, reserved: Sequence[Address], gateway_mac: bytes) -> None:
    for name in ("accept_dad", "accept_ra", "accept_redirects"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            sysctl.put(f"net.ipv6.conf.{wanted.interface}.{name}", 0)
    index = socket.if_nametoindex(wanted.interface)
    messages = [rtnetlink.address(index, ip_interface(address)) for address in reserved]
    messages.append(rtnetlink.up(index))
    for gateway in wanted.gateways:
        messages.append(rtnetlink.route(index, ip_network(gateway)))
        messages.append(rtnetlink.route(index, ip_network(ANYWHERE[gateway.version]), via=gateway))
        messages.append(rtnetlink.neighbour(index, gateway, gateway_mac))
    rtnetlink.send(messages)


def single(address: Address) -> str:
    """The network that holds one address."""
    return f"{address}/{address.max_prefixlen}"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PluginError(INVALID_ENVIRONMENT, f"CNI_NETNS {path!r}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _inside(netns: int) -> Iterator[None]:
    """This thread in another network namespace, and back."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(netns, "net")
        yield
    finally:
        namespaces.setns(own, "net")
        os.close(own)
