"""The CNI plugin `testbed-bridge`: a Pod's veth pair to the node's bridge, its address and its routes.

Pods have a /32 address and reach everything, Pods on their own node too, through the bridge's address. So
each packet passes the node's IP layer, where Service rules and conntrack are, and a translated reply comes
back the same way on every kernel, with br_netfilter and without it.

Specification: https://www.cni.dev/docs/spec/ version 1.0.0.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from testbed.errors import TestbedError
from testbed.kernel import link, namespaces, sysctl
from testbed.node.ipam import GATEWAY, Addresses

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
INVALID_ENVIRONMENT, UNDECODABLE, INVALID_CONFIG, FAILED = 4, 6, 7, 100
"""Error codes; below 100 those of the specification."""


class PluginError(TestbedError):
    """`code` as the specification numbers errors."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Attachment:
    """One interface of one container, and the network it is to be in."""

    container: str
    netns: str
    interface: str
    bridge: str
    mtu: int
    hairpin: bool
    subnet: IPv4Network
    directory: Path

    @property
    def host_end(self) -> str:
        """The name of the node's end of the pair: the same for ADD and DEL, at most 15 letters."""
        digest = hashlib.sha1(f"{self.container}/{self.interface}".encode(), usedforsecurity=False)
        return f"veth{digest.hexdigest()[:8]}"

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet[GATEWAY]

    @classmethod
    def parse(cls, environment: Mapping[str, str], config: Mapping[str, Any]) -> Attachment:
        """From the environment and the network configuration of a call. Raises PluginError."""
        missing = [name for name in ("CNI_CONTAINERID", "CNI_IFNAME") if not environment.get(name)]
        if missing:
            raise PluginError(INVALID_ENVIRONMENT, f"{' and '.join(missing)} must be set")
        try:
            ipam = config["ipam"]
            subnet = IPv4Network(ipam.get("subnet") or ipam["ranges"][0][0]["subnet"])
            directory = Path(ipam.get("dataDir") or "/var/lib/cni/networks", config["name"])
            return cls(
                container=environment["CNI_CONTAINERID"],
                netns=environment.get("CNI_NETNS", ""),
                interface=environment["CNI_IFNAME"],
                bridge=config.get("bridge") or "cni0",
                mtu=int(config.get("mtu") or link.MTU),
                hairpin=bool(config.get("hairpinMode", True)),
                subnet=subnet,
                directory=directory,
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            message = f"network configuration: {type(error).__name__}: {error}"
            raise PluginError(INVALID_CONFIG, message) from None


def add(wanted: Attachment) -> dict[str, Any]:
    """ADD: make the interface. The result as the specification has it. Undoes its work when it fails."""
    addresses = Addresses(wanted.directory, wanted.subnet)
    address = addresses.reserve(wanted.container, wanted.interface)
    try:
        with IPRoute() as node, _opened(wanted.netns) as netns:
            bridge = _bridge(node, wanted)
            link.veth(node, wanted.host_end, wanted.interface, netns=netns, mtu=wanted.mtu)
            host_end = link.index(node, wanted.host_end)
            link.port(node, host_end, bridge, hairpin=wanted.hairpin)
            link.up(node, host_end)
            with _inside(netns), IPRoute() as pod:
                _pod_end(pod, wanted, address)
    except BaseException:
        delete(wanted)
        raise
    return {
        "interfaces": [
            {"name": wanted.bridge},
            {"name": wanted.host_end},
            {"name": wanted.interface, "sandbox": wanted.netns},
        ],
        "ips": [{"address": f"{address}/32", "gateway": str(wanted.gateway), "interface": 2}],
        "routes": [{"dst": f"{wanted.gateway}/32"}, {"dst": "0.0.0.0/0", "gw": str(wanted.gateway)}],
        "dns": {},
    }


def delete(wanted: Attachment) -> None:
    """DEL: no trace is left. Content when there is nothing, the namespace included."""
    with IPRoute() as node:
        link.delete(node, wanted.host_end)
    Addresses(wanted.directory, wanted.subnet).release(wanted.container, wanted.interface)


def check(wanted: Attachment, result: Mapping[str, Any]) -> None:
    """CHECK: raises PluginError unless what ADD made is still there."""
    with IPRoute() as node, _opened(wanted.netns) as netns:
        if not link.find(node, wanted.host_end):
            raise PluginError(FAILED, f"{wanted.host_end} is gone from the node")
        with _inside(netns), IPRoute() as pod:
            index = link.find(pod, wanted.interface)
            held = {each.get_attr("IFA_LOCAL") for each in pod.get_addr(index=index)} if index else set()
    for entry in result.get("ips") or ():
        if entry["address"].partition("/")[0] not in held:
            raise PluginError(FAILED, f"{wanted.interface} does not have {entry['address']}")


def _bridge(node: Any, wanted: Attachment) -> int:
    """The node's bridge with the gateway's address; made by the first Pod, found by the others. Its index."""
    found = link.find(node, wanted.bridge)
    if found:
        return found
    # An address of its own, derived from the gateway's: it must not change as ports come and go.
    mac = "0a:58:" + ":".join(f"{byte:02x}" for byte in wanted.gateway.packed)
    link.bridge(node, wanted.bridge, mtu=wanted.mtu, mac=mac)
    link.address(node, wanted.bridge, f"{wanted.gateway}/{wanted.subnet.prefixlen}")
    for name, value in (
        ("net.ipv4.ip_forward", 1),
        # Two Pods of a node talk through the gateway on purpose: no "there is a shorter way" from it.
        ("net.ipv4.conf.all.send_redirects", 0),
        (f"net.ipv4.conf.{wanted.bridge}.send_redirects", 0),
        # Everything is routed, so frames need not be shown to the IP tables a second time.
        ("net.bridge.bridge-nf-call-iptables", 0),
    ):
        with contextlib.suppress(FileNotFoundError):
            sysctl.put(name, value)
    link.up(node, wanted.bridge)
    return link.index(node, wanted.bridge)


def _pod_end(pod: Any, wanted: Attachment, address: IPv4Address) -> None:
    interface = link.index(pod, wanted.interface)
    link.address(pod, interface, f"{address}/32")
    link.up(pod, interface)
    link.route(pod, f"{wanted.gateway}/32", dev=interface)
    link.route(pod, "default", via=str(wanted.gateway), dev=interface)


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
