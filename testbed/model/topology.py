"""What a cluster is to be: its ranges, its machines and their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from itertools import combinations

from testbed.errors import UsageError
from testbed.model.families import Address, Network, family, of_version, overlap

DEFAULT_CLUSTER_CIDR = IPv4Network("10.244.0.0/16")
DEFAULT_SERVICE_CIDR = IPv4Network("10.96.0.0/12")
DEFAULT_CLUSTER_CIDRS: tuple[Network, ...] = (DEFAULT_CLUSTER_CIDR, IPv6Network("fd00:10:244::/56"))
DEFAULT_SERVICE_CIDRS: tuple[Network, ...] = (DEFAULT_SERVICE_CIDR, IPv6Network("fd00:10:96::/112"))
UNDERLAYS: Mapping[int, Network] = {4: IPv4Network("172.30.0.0/24"), 6: IPv6Network("fd00:172:30::/64")}
"""The networks that join the nodes and the outside client of a cluster, by family."""

LOAD_BALANCERS: Mapping[int, Network] = {4: IPv4Network("192.0.2.0/24"), 6: IPv6Network("2001:db8:2::/112")}
"""Addresses for Services of type LoadBalancer (ranges for documentation, RFC 5737 and RFC 3849)."""

CONTROL_PLANE = "controlplane"
CLIENT = "client"
CONTROL_PLANE_HOST = 10
FIRST_NODE_HOST = 11
CLIENT_HOST = 250
MAX_NODES = 200
NODE_PREFIX: Mapping[int, int] = {4: 24, 6: 64}
"""Of a node's Pod range (--node-cidr-mask-size-ipv4, -ipv6)."""
SMALLEST_SERVICE_RANGE: Mapping[int, int] = {4: 28, 6: 124}

DEFAULT_NODE_GRACE = 40.0
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
    """A node: its name, its addresses on the underlay, its Pod ranges, and what it has of its own.

    One address and one range of each family of the cluster, in the cluster's order. `proxy_mode`, `iptables`
    and `proxy_command` go before the cluster's where they are not empty.
    """

    name: str
    addresses: tuple[Address, ...]
    pod_cidrs: tuple[Network, ...]
    proxy_mode: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    iptables: str = ""
    proxy_command: str = ""

    @property
    def address(self) -> Address:
        """Of the primary family."""
        return self.addresses[0]

    @property
    def pod_cidr(self) -> Network:
        return self.pod_cidrs[0]

    def address_of(self, version: int) -> Address:
        """Of one family. Raises LookupError when the cluster has not that one."""
        return of_version(self.addresses, version)

    def pod_cidr_of(self, version: int) -> Network:
        return of_version(self.pod_cidrs, version)


@dataclass(frozen=True)
class ClusterSpec:
    """A whole cluster, checked. `nodes` has the control plane first.

    Ranges: one, or one of each family; that of the primary family first. `node_grace`: seconds for which a
    node may be silent before it counts as lost. `cni_conf`: a file with the conf list in place of our own.
    """

    name: str = "testbed"
    cluster_cidrs: tuple[Network, ...] = DEFAULT_CLUSTER_CIDRS
    service_cidrs: tuple[Network, ...] = DEFAULT_SERVICE_CIDRS
    node_ports: PortRange = PortRange()
    proxy_mode: str = "iptables"
    ipvs_scheduler: str = "rr"
    iptables: str = "auto"
    proxy_command: str = ""
    node_grace: float = DEFAULT_NODE_GRACE
    images: Mapping[str, str] = field(default_factory=dict)
    cni_conf: str = ""
    nodes: tuple[NodeSpec, ...] = ()

    @property
    def control_plane(self) -> NodeSpec:
        return self.nodes[0]

    @property
    def workers(self) -> tuple[NodeSpec, ...]:
        return self.nodes[1:]

    @property
    def families(self) -> tuple[int, ...]:
        """The IP families of nodes and Pods, the primary one first."""
        return tuple(each.version for each in self.cluster_cidrs)

    @property
    def cluster_cidr(self) -> Network:
        """Of the primary family."""
        return self.cluster_cidrs[0]

    @property
    def service_cidr(self) -> Network:
        return self.service_cidrs[0]

    def cluster_cidr_of(self, version: int) -> Network:
        """Of one family. Raises LookupError when the cluster has not that one."""
        return of_version(self.cluster_cidrs, version)

    @property
    def client_addresses(self) -> tuple[Address, ...]:
        """The addresses of the outside client on the underlay."""
        return tuple(UNDERLAYS[version][CLIENT_HOST] for version in self.families)

    @property
    def client_address(self) -> Address:
        """Of the primary family."""
        return self.client_addresses[0]

    @property
    def api_service_address(self) -> Address:
        """The ClusterIP of the `kubernetes` Service: the first of the Service range."""
        return self.service_cidr[1]

    @property
    def dns_addresses(self) -> tuple[Address, ...]:
        """The ClusterIPs of the cluster DNS: the tenth of each Service range."""
        return tuple(each[10] for each in self.service_cidrs)

    @property
    def dns_address(self) -> Address:
        """Of the primary family."""
        return self.dns_addresses[0]

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
    pod_ranges: list[Iterator[Network]] = [
        each.subnets(new_prefix=NODE_PREFIX[each.version]) for each in spec.cluster_cidrs
    ]
    nodes = []
    for i, wish in enumerate((NodeWish(CONTROL_PLANE), *wishes)):
        addresses = tuple(UNDERLAYS[version][CONTROL_PLANE_HOST + i] for version in spec.families)
        cidrs = tuple(next(each) for each in pod_ranges)
        own = (wish.proxy_mode, dict(wish.labels), wish.iptables, wish.proxy_command)
        nodes.append(NodeSpec(wish.name, addresses, cidrs, *own))
    return ClusterSpec(**{**spec.__dict__, "nodes": tuple(nodes)})


def _check_ranges(spec: ClusterSpec, count: int) -> None:
    ranges = {
        "Pod range": spec.cluster_cidrs,
        "Service range": spec.service_cidrs,
        "underlay": tuple(UNDERLAYS.values()),
        "load balancers'": tuple(LOAD_BALANCERS.values()),
    }
    for (one, first), (other, second) in combinations(ranges.items(), 2):
        if found := overlap(first, second):
            raise UsageError(f"{one} {found[0]} overlaps {other} {found[1]}; choose ranges that are disjoint")
    versions = tuple(each.version for each in spec.service_cidrs)
    if versions != spec.families[: len(versions)]:
        raise UsageError(
            f"Service ranges are {_names(versions)} and Pod ranges {_names(spec.families)}; "
            "give both the same families in the same order"
        )
    if count - 1 < 1 or count > MAX_NODES:
        raise UsageError(f"{count - 1} nodes asked for; between 1 and {MAX_NODES - 1} are possible")
    for cidr in spec.cluster_cidrs:
        prefix = NODE_PREFIX[cidr.version]
        room = 2 ** (prefix - cidr.prefixlen) if cidr.prefixlen <= prefix else 0
        if room < count:
            raise UsageError(
                f"Pod range {cidr} has room for {room} nodes with a /{prefix} each, {count} are needed; "
                "choose a larger --cluster-cidr"
            )
    for cidr in spec.service_cidrs:
        smallest = SMALLEST_SERVICE_RANGE[cidr.version]
        if cidr.prefixlen > smallest:
            raise UsageError(f"Service range {cidr} is too small; a /{smallest} at least is needed")


def _names(versions: tuple[int, ...]) -> str:
    return " and ".join(map(family, versions))
