"""What a cluster is to be: its ranges, its machines and their addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from testbed.errors import UsageError

DEFAULT_CLUSTER_CIDR = IPv4Network("10.244.0.0/16")
DEFAULT_SERVICE_CIDR = IPv4Network("10.96.0.0/12")
UNDERLAY = IPv4Network("172.30.0.0/24")
"""The network that joins the nodes and the outside client of a cluster."""

LOAD_BALANCERS = IPv4Network("192.0.2.0/24")
"""Addresses for Services of type LoadBalancer (a range for documentation, RFC 5737)."""

CONTROL_PLANE = "controlplane"
CLIENT = "client"
CONTROL_PLANE_HOST = 10
FIRST_NODE_HOST = 11
CLIENT_HOST = 250
MAX_NODES = 200
NODE_PREFIX = 24

API_PORT = 6443
KUBELET_PORT = 10250

IPVS_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh")
"""What `--ipvs-scheduler` takes: the kernel's modules ip_vs_NAME."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class PortRange:
    """An inclusive range of ports, as `--service-node-port-range` takes it: `30000-32767`."""

    first: int = 30000
    last: int = 32767

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """`A-B`. Raises UsageError."""
        match = re.fullmatch(r"(\d+)-(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= 65535:
            raise UsageError(f"service node port range {text!r} is not A-B with 1 <= A <= B <= 65535")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class NodeSpec:
    """A node: its name, its address on the underlay, its Pod range, and what it has of its own.

    `proxy_mode`, `iptables` and `proxy_command` go before the cluster's where they are not empty.
    """

    name: str
    address: IPv4Address
    pod_cidr: IPv4Network
    proxy_mode: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    iptables: str = ""
    proxy_command: str = ""


@dataclass(frozen=True)
class ClusterSpec:
    """A whole cluster, checked. `nodes` has the control plane first."""

    name: str = "testbed"
    cluster_cidr: IPv4Network = DEFAULT_CLUSTER_CIDR
    service_cidr: IPv4Network = DEFAULT_SERVICE_CIDR
    node_ports: PortRange = PortRange()
    proxy_mode: str = "iptables"
    ipvs_scheduler: str = "rr"
    iptables: str = "auto"
    proxy_command: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[NodeSpec, ...] = ()

    @property
    def control_plane(self) -> NodeSpec:
        return self.nodes[0]

    @property
    def workers(self) -> tuple[NodeSpec, ...]:
        return self.nodes[1:]

    @property
    def client_address(self) -> IPv4Address:
        """The address of the outside client on the underlay."""
        return UNDERLAY[CLIENT_HOST]

    @property
    def api_service_address(self) -> IPv4Address:
        """The ClusterIP of the `kubernetes` Service: the first of the Service range."""
        return self.service_cidr[1]

    @property
    def dns_address(self) -> IPv4Address:
        """The ClusterIP of the cluster DNS: the tenth of the Service range."""
        return self.service_cidr[10]

    def mode_of(self, node: NodeSpec) -> str:
        return node.proxy_mode or self.proxy_mode

    def iptables_of(self, node: NodeSpec) -> str:
        """The variant of iptables on a node: auto, nft or legacy."""
        return node.iptables or self.iptables

    def proxy_command_of(self, node: NodeSpec) -> str:
        """The user's own proxy on a node; "": our agent."""
        return node.proxy_command or self.proxy_command


@dataclass(frozen=True)
class NodeWish:
    """What a user says of a node; addresses are given out by `plan`."""

    name: str
    proxy_mode: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    iptables: str = ""
    proxy_command: str = ""


def network(text: str, what: str) -> IPv4Network:
    """An IPv4 network in CIDR form. Raises UsageError naming `what`."""
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"{what} {text!r} is not a network in CIDR form: {error}") from None


def plan(spec: ClusterSpec, wishes: tuple[NodeWish, ...]) -> ClusterSpec:
    """`spec` with its nodes laid out: control plane first, an underlay address and a Pod range each.

    Raises UsageError when names clash or the ranges overlap or are too small.
    """
    if not _NAME.fullmatch(spec.name):
        raise UsageError(f"cluster name {spec.name!r} is not a DNS label of at most 32 characters")
    _check_ranges(spec, len(wishes) + 1)
    names = [CONTROL_PLANE, *(wish.name for wish in wishes)]
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"node name {name!r} is not a DNS label of at most 32 characters")
        if name == CLIENT or names.count(name) > 1:
            raise UsageError(f"node name {name!r} is taken; every machine of a cluster needs its own")
    pod_ranges = spec.cluster_cidr.subnets(new_prefix=NODE_PREFIX)
    all_wishes = (NodeWish(CONTROL_PLANE), *wishes)
    nodes = tuple(
        NodeSpec(
            wish.name,
            UNDERLAY[CONTROL_PLANE_HOST + i],
            next(pod_ranges),
            wish.proxy_mode,
            dict(wish.labels),
            wish.iptables,
            wish.proxy_command,
        )
        for i, wish in enumerate(all_wishes)
    )
    return ClusterSpec(**{**spec.__dict__, "nodes": nodes})


def _check_ranges(spec: ClusterSpec, count: int) -> None:
    ranges = {
        "Pod range": spec.cluster_cidr,
        "Service range": spec.service_cidr,
        "underlay": UNDERLAY,
        "load balancers'": LOAD_BALANCERS,
    }
    names = list(ranges)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if ranges[one].overlaps(ranges[other]):
                raise UsageError(
                    f"{one} {ranges[one]} overlaps {other} {ranges[other]}; choose ranges that are disjoint"
                )
    if count - 1 < 1 or count > MAX_NODES:
        raise UsageError(f"{count - 1} nodes asked for; between 1 and {MAX_NODES - 1} are possible")
    room = 2 ** max(0, NODE_PREFIX - spec.cluster_cidr.prefixlen)
    if spec.cluster_cidr.prefixlen > NODE_PREFIX or room < count:
        raise UsageError(
            f"Pod range {spec.cluster_cidr} has room for {room if spec.cluster_cidr.prefixlen <= 24 else 0} "
            f"nodes with a /{NODE_PREFIX} each, {count} are needed; choose a larger --cluster-cidr"
        )
    if spec.service_cidr.prefixlen > 28:
        raise UsageError(f"Service range {spec.service_cidr} is too small; a /28 at least is needed")
