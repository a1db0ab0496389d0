"""The scene of the matrix: the Pods that serve, and the Services that lead to them, one row each.

`NEAR` and `CALLER` are Pods on the first node, `FAR` is one on the second, each the only backend of the
Service of its name; `ALL` has the three of them as backends, `NONE` has none. The rest are what Services of
one backend look like with a field set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from testbed.model.families import VERSIONS, Address, Network, family
from testbed.model.topology import UNDERLAYS, ClusterSpec

NEAR, FAR, CALLER, ALL, NONE = "near", "far", "caller", "all", "none"
NEAR_LOCAL, FAR_LOCAL = "near-local", "far-local"
NEAR_INSIDE, FAR_INSIDE = "near-inside", "far-inside"
ALL_LOCAL = "all-local"
PUBLISHED, ENDING, HALF_ENDING = "published", "ending", "half-ending"
MOVING, STICKY, BRIEF = "moving", "sticky", "brief"
GUARDED, CLOSED, KIN = "guarded", "closed", "kin"
DEAF, FAR_DEAF = "deaf", "far-deaf"
HINTED, HOMELY, BEHIND = "hinted", "homely", "behind"
IPV4_ONLY, IPV6_ONLY, IPV6_FIRST = "ipv4-only", "ipv6-only", "ipv6-first"
FIRST, SECOND, CLIENT = "node01", "node02", "client"

HOMES = {NEAR: FIRST, CALLER: FIRST, FAR: SECOND}
"""The backends, and the node each is on."""

UNREADY = "unready"
SERVERS = {**HOMES, UNREADY: FIRST}
"""And one that serves and is never ready."""

SERVICE_PORT = 80
TARGET_PORT = 8080
DEAF_PORT = 8099
"""Nobody listens there."""
PROTOCOLS = ("TCP", "UDP")
"""Of every Service."""
SCTP = "SCTP"
"""Of some, where the kernel has it."""

WAYS: Mapping[str, Mapping[int, Network]] = {
    FIRST: {4: IPv4Network("198.51.100.0/25"), 6: IPv6Network("2001:db8:100::/64")},
    SECOND: {4: IPv4Network("198.51.100.128/25"), 6: IPv6Network("2001:db8:200::/64")},
}
"""External addresses that the outside client routes through this node, by family. Meant for documentation
(RFC 5737, RFC 3849)."""

ZONES: Mapping[str, str] = {FIRST: "zone-a", SECOND: "zone-b"}
"""The zone of each node."""

PATH_MTU = 1300
"""Bytes of the largest packet that the second node passes on to the Pod FAR."""

ELSEWHERE = ("203.0.113.0/24", "2001:db8:300::/64")
"""Networks that nobody here is in."""

BRIEF_SECONDS = 1
"""How long BRIEF remembers its clients."""

VISITORS: Mapping[int, tuple[Address, ...]] = {
    version: tuple(network[host] for host in range(100, 120)) for version, network in UNDERLAYS.items()
}
"""Further addresses of the outside client, by family."""

BRIEFLY = {"clientIP": {"timeoutSeconds": BRIEF_SECONDS}}


@dataclass(frozen=True)
class Offer:
    """A Service. `backends`: labels of its Pods; `node_port` 0: it has none.

    `outside`: it has external addresses too, one for each way in. `spec`: further fields. `written`: it has
    no selector, and these Pods in these conditions are in an EndpointSlice written by hand; `hinted`: each is
    for the zone that it is in. `target`: the port of the backends. `proxied`: a load balancer of somebody
    else's has told that it proxies (ipMode Proxy). `versions`: the IP families that it asks for, the primary
    one first. `sctp`: it is offered over SCTP, too.
    """

    backends: Mapping[str, str] = field(default_factory=dict)
    node_port: int = 0
    kind: str = "NodePort"
    outside: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    hinted: bool = False
    target: int = TARGET_PORT
    proxied: bool = False
    versions: tuple[int, ...] = VERSIONS
    sctp: bool = False
    admits: tuple[str, ...] = ()
    """Networks, and machines by name: `loadBalancerSourceRanges`."""

    def protocols(self, sctp: bool) -> tuple[str, ...]:
        """`sctp`: whether the kernel has it."""
        return (*PROTOCOLS, SCTP) if self.sctp and sctp else PROTOCOLS


def _of(backend: str) -> dict[str, str]:
    return {"backend": backend}


LOCAL_OUTSIDE = {"externalTrafficPolicy": "Local"}
LOCAL_INSIDE = {"internalTrafficPolicy": "Local"}


def _checked(port: int) -> dict[str, Any]:
    """Policy Local of a load balancer. The API server must choose no port: it might be one of ours."""
    return {**LOCAL_OUTSIDE, "healthCheckNodePort": port}


READY = {"ready": True, "serving": True, "terminating": False}
ENDS_SERVING = {"ready": False, "serving": True, "terminating": True}
ENDS_SILENT = {"ready": False, "serving": False, "terminating": True}

OFFERS: Mapping[str, Offer] = {
    NEAR: Offer(_of(NEAR), 30080, "LoadBalancer", outside=True, sctp=True),
    FAR: Offer(_of(FAR), 30081, "LoadBalancer", outside=True, sctp=True),
    CALLER: Offer(_of(CALLER), 30082, sctp=True),
    ALL: Offer({"in": ALL}, 30083),
    NONE: Offer(_of(NONE), 30084, "LoadBalancer", outside=True, sctp=True),
    NEAR_LOCAL: Offer(_of(NEAR), 30085, "LoadBalancer", outside=True, spec=_checked(30070), sctp=True),
    FAR_LOCAL: Offer(_of(FAR), 30086, "LoadBalancer", outside=True, spec=_checked(30071)),
    ALL_LOCAL: Offer({"in": ALL}, 30089, spec=LOCAL_OUTSIDE | LOCAL_INSIDE),
    NEAR_INSIDE: Offer(_of(NEAR), kind="ClusterIP", spec=LOCAL_INSIDE),
    FAR_INSIDE: Offer(_of(FAR), kind="ClusterIP", spec=LOCAL_INSIDE),
    GUARDED: Offer(_of(FAR), 30087, "LoadBalancer", admits=(CLIENT, *ELSEWHERE)),
    UNREADY: Offer(_of(UNREADY), 30090),
    PUBLISHED: Offer(_of(UNREADY), 30091, spec={"publishNotReadyAddresses": True}),
    ENDING: Offer(node_port=30092, written={NEAR: ENDS_SERVING, CALLER: ENDS_SILENT}),
    HALF_ENDING: Offer(node_port=30093, spec=LOCAL_OUTSIDE, written={NEAR: ENDS_SERVING, FAR: READY}),
    MOVING: Offer(_of(NEAR), 30094),
    STICKY: Offer({"in": ALL}, 30095, spec={"sessionAffinity": "ClientIP"}),
    BRIEF: Offer({"in": ALL}, 30096, spec={"sessionAffinity": "ClientIP", "sessionAffinityConfig": BRIEFLY}),
    DEAF: Offer(_of(NEAR), 30097, target=DEAF_PORT),
    FAR_DEAF: Offer(_of(FAR), 30098, target=DEAF_PORT),
    HINTED: Offer(node_port=30099, written={NEAR: READY, FAR: READY}, hinted=True),
    HOMELY: Offer({"in": ALL}, 30102, spec={"trafficDistribution": "PreferSameNode"}),
    KIN: Offer(
        _of(FAR),
        30100,
        "LoadBalancer",
        admits=(FIRST,),
    ),
    BEHIND: Offer(
        _of(NEAR), 30101, "LoadBalancer", spec={"loadBalancerClass": "example.com/outside"}, proxied=True
    ),
    CLOSED: Offer(_of(NEAR), 30088, "LoadBalancer", admits=ELSEWHERE),
    IPV4_ONLY: Offer(_of(NEAR), 30103, versions=(4,)),
    IPV6_ONLY: Offer(_of(NEAR), 30104, versions=(6,)),
    IPV6_FIRST: Offer(_of(FAR), 30105, versions=(6, 4)),
}

LIVE = (MOVING, STICKY, BRIEF)
"""Those that change, or remember: `testbed.packets.live` is about them."""

NODE_PORTS = {name: offer.node_port for name, offer in OFFERS.items() if offer.node_port}


def external_address(name: str, via: str, version: int = 4) -> Address:
    """The address of Service `name` that is routed through node `via`."""
    return WAYS[via][version][1 + list(OFFERS).index(name)]


def labels_of(pod: str) -> dict[str, str]:
    return {"backend": pod} | ({"in": ALL} if pod in HOMES else {})


def ready_of(name: str) -> list[str]:
    """The Pods that are ready endpoints of Service `name`."""
    offer = OFFERS[name]
    if offer.written:
        return [pod for pod, conditions in offer.written.items() if conditions["ready"]]
    candidates = SERVERS if offer.spec.get("publishNotReadyAddresses") else HOMES
    return [pod for pod in candidates if offer.backends.items() <= labels_of(pod).items()]


def manifest(name: str, namespace: str, sctp: bool, cluster: ClusterSpec) -> dict[str, Any]:
    """The Service as it is created in a cluster. `sctp`: whether the kernel has it."""
    offer = OFFERS[name]
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": SERVICE_PORT, "targetPort": offer.target}
        | ({"nodePort": offer.node_port} if offer.node_port else {})
        for protocol in offer.protocols(sctp)
    ]
    spec: dict[str, Any] = {"type": offer.kind, "ports": ports, **_families(offer.versions, cluster)}
    if not offer.written:
        spec["selector"] = dict(offer.backends)
    if offer.outside:
        spec["externalIPs"] = [
            str(external_address(name, via, version)) for version in VERSIONS for via in WAYS
        ]
    if offer.admits:
        spec["loadBalancerSourceRanges"] = [
            network for name in offer.admits for network in _networks(name, cluster)
        ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, **offer.spec},
    }


def _networks(name: str, cluster: ClusterSpec) -> list[str]:
    """A machine's addresses, or the network itself."""
    machines = {CLIENT: cluster.client_addresses, **{node.name: node.addresses for node in cluster.nodes}}
    return (
        [f"{address}/{address.max_prefixlen}" for address in machines[name]] if name in machines else [name]
    )


def _families(versions: tuple[int, ...], cluster: ClusterSpec) -> dict[str, Any]:
    """Of each family that the cluster has, unless it asks for others."""
    if versions == VERSIONS:
        return {"ipFamilyPolicy": "PreferDualStack"}
    asked = [family(version) for version in versions if version in cluster.families]
    policy = "PreferDualStack" if len(asked) > 1 else "SingleStack"
    return {"ipFamilyPolicy": policy, "ipFamilies": asked}


def written_slice(
    name: str, namespace: str, addresses: Mapping[str, str], family: str = "IPv4"
) -> dict[str, Any]:
    """The EndpointSlice, of one family, of a Service that has its endpoints written by hand. `addresses` of
    the Pods."""
    ports = [{"name": p.lower(), "protocol": p, "port": TARGET_PORT} for p in PROTOCOLS]
    endpoints = [
        {"addresses": [addresses[pod]], "nodeName": SERVERS[pod], "conditions": dict(conditions)}
        | ({"hints": {"forZones": [{"name": ZONES[SERVERS[pod]]}]}} if OFFERS[name].hinted else {})
        for pod, conditions in OFFERS[name].written.items()
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{family.lower()}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    }
