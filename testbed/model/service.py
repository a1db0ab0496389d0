"""What one node should do for Services: the frozen `Snapshot` that every proxy mode renders.

All policy is resolved before a Snapshot exists (`testbed.proxy.routing`): traffic policies, readiness, the
fallback to terminating endpoints, topology hints. A mode only writes down what it finds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Protocol(StrEnum):
    """A transport protocol, as the Kubernetes API spells it."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Refusal(StrEnum):
    """What happens to a packet when nobody can answer it."""

    REJECT = "reject"
    """No endpoint anywhere: ICMP port unreachable at once."""
    DROP = "drop"
    """Endpoints elsewhere, none here, and the policy is Local: silence."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One backend of a Service port. `local`: it runs on this node."""

    ip: str
    port: int
    local: bool = False

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoints that traffic of one kind goes to, or what becomes of it when there are none."""

    endpoints: tuple[Endpoint, ...] = ()
    refusal: Refusal = Refusal.REJECT

    def __bool__(self) -> bool:
        return bool(self.endpoints)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service as this node has to serve it, for one IP family."""

    namespace: str
    service: str
    port_name: str
    protocol: Protocol
    cluster_ip: str
    port: int
    node_port: int = 0
    """0: none."""
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    """Addresses of `status.loadBalancer` whose ipMode is VIP."""
    source_ranges: tuple[str, ...] = ()
    """`loadBalancerSourceRanges`, in force for the load balancer addresses. Empty: everybody may."""
    affinity_seconds: int = 0
    """ClientIP affinity lasts this long; 0: no affinity."""
    health_check_node_port: int = 0
    cluster: Route = Route()
    """Whom the policy Cluster lets this node send to."""
    local: Route = Route(refusal=Refusal.DROP)
    """Whom the policy Local lets this node send to: endpoints on this node."""
    serving: frozenset[tuple[str, int]] = frozenset()
    """UDP and SCTP: address and port of each endpoint that serves, wherever, and so may keep its flows."""
    internal_local: bool = False
    """internalTrafficPolicy is Local."""
    external_local: bool = False
    """externalTrafficPolicy is Local: the backend sees the client's own address."""

    @property
    def internal(self) -> Route:
        """Where traffic to the cluster IP goes."""
        return self.local if self.internal_local else self.cluster

    @property
    def external(self) -> Route:
        """Where traffic from outside to node port, external IPs and load balancer goes.

        Traffic of this cluster's own Pods and nodes to those goes to `cluster`, whatever the policy.
        """
        return self.local if self.external_local else self.cluster

    @property
    def name(self) -> str:
        """`namespace/service:port`, or without `:port` when the port has no name: as kube-proxy prints it."""
        full = f"{self.namespace}/{self.service}"
        return f"{full}:{self.port_name}" if self.port_name else full

    @property
    def public_ips(self) -> tuple[str, ...]:
        """Addresses besides the cluster IP that belong to the Service."""
        return self.external_ips + self.load_balancer_ips

    @property
    def is_public(self) -> bool:
        """Reachable from outside of the cluster."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint that this node may send traffic of any kind to, sorted, each once."""
        return tuple(sorted({*self.cluster.endpoints, *self.local.endpoints}))


@dataclass(frozen=True)
class Snapshot:
    """All that a node should do for Services at one moment, for one IP family.

    `services` is keyed by (`ServicePort.name`, protocol) and sorted, so that rendering is stable. A
    ServicePort that did not change between two Snapshots is the same object: comparing with `is` is enough.
    """

    services: Mapping[tuple[str, str], ServicePort] = field(default_factory=dict)
    node_port_ips: tuple[str, ...] = ()
    """The node's addresses that node ports answer on (`--nodeport-addresses`), loopback left out."""
    node_ports_anywhere: bool = True
    """Node ports answer on every local address: `--nodeport-addresses` restricts nothing."""
    node_ip: str = ""
    """The address that the Node object gives, "" as long as it gives none of this family."""
