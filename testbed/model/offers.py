"""The scene of the matrix: the Pods that serve, and the Services that lead to them, one row each.

`NEAR` and `CALLER` are Pods on the first node, `FAR` is one on the second, each the only backend of the
Service of its name; `ALL` has the three of them as backends, `NONE` has none. The rest are what Services of
one backend look like with a field set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

NEAR, FAR, CALLER, ALL, NONE = "near", "far", "caller", "all", "none"
NEAR_LOCAL, FAR_LOCAL = "near-local", "far-local"
NEAR_INSIDE, FAR_INSIDE = "near-inside", "far-inside"
ALL_LOCAL = "all-local"
GUARDED, CLOSED = "guarded", "closed"
FIRST, SECOND, CLIENT = "node01", "node02", "client"

HOMES = {NEAR: FIRST, CALLER: FIRST, FAR: SECOND}
"""The backends, and the node each is on."""

SERVICE_PORT = 80
TARGET_PORT = 8080
PROTOCOLS = ("TCP", "UDP")

WAYS: Mapping[str, IPv4Network] = {
    FIRST: IPv4Network("198.51.100.0/25"),
    SECOND: IPv4Network("198.51.100.128/25"),
}
"""External addresses that the outside client routes through this node. Meant for documentation (RFC 5737)."""

ELSEWHERE = "203.0.113.0/24"
"""A network that nobody here is in."""


@dataclass(frozen=True)
class Offer:
    """A Service. `backends`: the names of its Pods' label; `node_port` 0: it has none.

    `outside`: it has external addresses too, one for each way in. `spec`: further fields.
    """

    backends: Mapping[str, str]
    node_port: int = 0
    kind: str = "NodePort"
    outside: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)


def _of(backend: str) -> dict[str, str]:
    return {"backend": backend}


LOCAL_OUTSIDE = {"externalTrafficPolicy": "Local"}
LOCAL_INSIDE = {"internalTrafficPolicy": "Local"}

OFFERS: Mapping[str, Offer] = {
    NEAR: Offer(_of(NEAR), 30080, "LoadBalancer", outside=True),
    FAR: Offer(_of(FAR), 30081, "LoadBalancer", outside=True),
    CALLER: Offer(_of(CALLER), 30082),
    ALL: Offer({"in": ALL}, 30083),
    NONE: Offer(_of(NONE), 30084, "LoadBalancer", outside=True),
    NEAR_LOCAL: Offer(_of(NEAR), 30085, "LoadBalancer", outside=True, spec=LOCAL_OUTSIDE),
    FAR_LOCAL: Offer(_of(FAR), 30086, "LoadBalancer", outside=True, spec=LOCAL_OUTSIDE),
    ALL_LOCAL: Offer({"in": ALL}, 30089, spec=LOCAL_OUTSIDE | LOCAL_INSIDE),
    NEAR_INSIDE: Offer(_of(NEAR), kind="ClusterIP", spec=LOCAL_INSIDE),
    FAR_INSIDE: Offer(_of(FAR), kind="ClusterIP", spec=LOCAL_INSIDE),
    GUARDED: Offer(
        _of(FAR), 30087, "LoadBalancer", spec={"loadBalancerSourceRanges": ["172.30.0.250/32", ELSEWHERE]}
    ),
    CLOSED: Offer(_of(NEAR), 30088, "LoadBalancer", spec={"loadBalancerSourceRanges": [ELSEWHERE]}),
}

NODE_PORTS = {name: offer.node_port for name, offer in OFFERS.items() if offer.node_port}


def external_address(name: str, via: str) -> str:
    """The address of Service `name` that is routed through node `via`."""
    return str(WAYS[via][1 + list(OFFERS).index(name)])


def backends_of(name: str) -> list[str]:
    """The Pods behind Service `name`."""
    wanted = OFFERS[name].backends
    return [pod for pod in HOMES if wanted.items() <= {"backend": pod, "in": ALL}.items()]


def manifest(name: str, namespace: str) -> dict[str, Any]:
    """The Service as it is created."""
    offer = OFFERS[name]
    ports = [
        {"name": protocol.lower(), "protocol": protocol, "port": SERVICE_PORT, "targetPort": TARGET_PORT}
        | ({"nodePort": offer.node_port} if offer.node_port else {})
        for protocol in PROTOCOLS
    ]
    spec: dict[str, Any] = {"type": offer.kind, "selector": dict(offer.backends), "ports": ports}
    if offer.outside:
        spec["externalIPs"] = [external_address(name, via) for via in WAYS]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, **offer.spec},
    }
