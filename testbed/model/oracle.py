"""The oracle: what must happen to a packet sent to a Service, by whichever of its addresses, or to a Pod.

It reads the objects of the API as the API serves them, shares no code with the proxy that it judges, and
knows no proxy mode (where one cannot do it: `testbed.model.deviations`). The rules are those of kube-proxy:

- who may answer: the ready endpoints; with traffic policy Local only those on the node the packet enters;
  where none is ready, those that terminate and still serve (KEP-1669);
- nobody: ICMP port unreachable at once; endpoints elsewhere but policy Local: silence;
- who is in none of `loadBalancerSourceRanges` gets silence from the load balancer's address, and only there;
- masqueraded is what comes from off the cluster range to a ClusterIP, everything to an outside address with
  policy Cluster, and what a Pod sends to itself; it gets the address of the interface by which it leaves;
- nothing else is translated, and the source port is kept with the source address;
- a Service is none in an IP family that it has not: its node port there is one that nobody listens on.

Source: kubernetes pkg/proxy/iptables/proxier.go (writeServiceToEndpointRules, KUBE-EXT chains), KEP-2086.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any

from testbed.model.families import VERSIONS, Address, family
from testbed.model.topology import ClusterSpec, NodeSpec

ZONE = "topology.kubernetes.io/zone"

Object = Mapping[str, Any]


class Fate(StrEnum):
    """What the sender gets."""

    ANSWERED = "answered"
    PORT_UNREACHABLE = "ICMP port unreachable"
    RESET = "TCP reset"
    CLOSED = "accepted, then closed"
    SILENCE = "silence"
    SENT_ON = "sent on, out of the cluster"


@dataclass(frozen=True)
class World:
    """A cluster as the API tells it, at one moment."""

    spec: ClusterSpec
    services: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    path_mtus: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the largest packet on the way to an address, where that is not the links' own."""


@dataclass(frozen=True)
class Sender:
    """Who sends. `node`: the node it runs on, "" outside the cluster; `host`: in the node's own network."""

    address: Address
    node: str = ""
    host: bool = False


@dataclass(frozen=True)
class Flow:
    """A connection or datagram as its sender means it. `via`: the node an outside sender routes through."""

    sender: Sender
    to: Address
    port: int
    protocol: str
    via: str = ""
    size: int = 0


@dataclass(frozen=True)
class Delivery:
    """The packet as one backend must see it. `port_kept`: with the source port that the sender chose."""

    backend: Address
    port: int
    source: Address
    port_kept: bool


@dataclass(frozen=True)
class Outcome:
    """What must happen: one of `deliveries`, each as likely as the other, and then `fate`.

    `told`: on the way, the sender gets to know that its packets are too large (ICMP fragmentation needed).
    `may_arrive`: without deliveries, a backend may get it all the same.
    """

    fate: Fate
    deliveries: tuple[Delivery, ...] = ()
    told: bool = False
    may_arrive: bool = False

    @property
    def backends(self) -> frozenset[Address]:
        return frozenset(delivery.backend for delivery in self.deliveries)


@dataclass(frozen=True)
class Endpoint:
    """An address that serves, and the node it is on. Not `ready`: it terminates and still serves."""

    address: Address
    port: int
    node: str
    ready: bool
    zones: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Aim:
    """The Service port that a flow addresses: by its ClusterIP, or by an outside address (`external`).

    `balanced`: by that of its load balancer.
    """

    service: Object
    port: Object
    external: bool
    balanced: bool = False


def expect(world: World, flow: Flow) -> Outcome:
    """What must happen to `flow`. Raises LookupError when it is addressed to nothing the oracle knows."""
    aim = aim_of(world, flow)
    if aim is None:
        return Outcome(Fate.SENT_ON) if _proxied(world, flow) else _direct(world, flow)
    entry = entry_node(world, flow)
    every = list(_endpoints(world, aim, flow.to.version))
    if not every:
        return Outcome(Fate.PORT_UNREACHABLE)
    local = _local_only(world, aim, flow, entry)
    allowed = _usable([e for e in every if not local or e.node == entry.name])
    if not allowed or not _let_in(aim, flow):
        return Outcome(Fate.SILENCE)
    near = allowed if local else _nearest(allowed, entry)
    return _received(world, flow, tuple(_deliver(world, aim, flow, entry, e) for e in near))


def _received(world: World, flow: Flow, deliveries: tuple[Delivery, ...]) -> Outcome:
    """What the backends make of it. A refusal of theirs comes back as one of what was addressed."""
    if all(_deaf(world, str(each.backend), each.port, flow.protocol) for each in deliveries):
        return Outcome(Fate.RESET) if flow.protocol == "TCP" else Outcome(Fate.PORT_UNREACHABLE, deliveries)
    small = any(flow.size > world.path_mtus.get(str(each.backend), flow.size) for each in deliveries)
    return Outcome(Fate.ANSWERED, deliveries, told=small and flow.protocol == "TCP")


def aim_of(world: World, flow: Flow) -> Aim | None:
    """The Service port that `flow` is addressed to, None when it is none."""
    to_node = any(flow.to in node.addresses for node in world.spec.nodes)
    for service in world.services:
        spec = service["spec"]
        if family(flow.to.version) not in spec.get("ipFamilies", map(family, VERSIONS)):
            continue
        addresses = {spec.get("clusterIP"), *spec.get("clusterIPs", ())}
        balancers = _balancers(service)
        outside = balancers | set(spec.get("externalIPs", ()))
        for port in spec.get("ports", ()):
            if port.get("protocol", "TCP") != flow.protocol:
                continue
            if str(flow.to) in addresses and port["port"] == flow.port:
                return Aim(service, port, external=False)
            if str(flow.to) in outside and port["port"] == flow.port:
                return Aim(service, port, external=True, balanced=str(flow.to) in balancers)
            if to_node and port.get("nodePort") == flow.port:
                return Aim(service, port, external=True)
    return None


def _balancers(service: Object) -> set[str]:
    """Addresses of the load balancer under which packets come to the nodes (KEP-1860: ipMode VIP)."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    return {one["ip"] for one in ingress if one.get("ip") and one.get("ipMode", "VIP") == "VIP"}


def _deaf(world: World, address: str, port: int, protocol: str) -> bool:
    """Whether this is a Pod's address where the Pod does not listen."""
    for pod in world.pods:
        if address in addresses_of(pod):
            ports = (p for container in pod["spec"]["containers"] for p in container.get("ports", ()))
            return (port, protocol) not in {(p["containerPort"], p.get("protocol", "TCP")) for p in ports}
    return False


def _proxied(world: World, flow: Flow) -> bool:
    """To a load balancer that wants to see everything itself (KEP-1860: ipMode Proxy)."""
    statuses = (service.get("status", {}).get("loadBalancer", {}) for service in world.services)
    ingress = (one for status in statuses for one in status.get("ingress") or ())
    return any((one.get("ip"), one.get("ipMode")) == (str(flow.to), "Proxy") for one in ingress)


def entry_node(world: World, flow: Flow) -> NodeSpec:
    """The node whose rules decide: the one called by its own address, else the first on the way."""
    called = [node for node in world.spec.nodes if flow.to in node.addresses]
    first = [node for node in world.spec.nodes if node.name == (flow.sender.node or flow.via)]
    if not called and not first:
        raise LookupError(f"{flow.sender.address} reaches {flow.to} through no node of the cluster")
    return (called or first)[0]


def outgoing_address(node: NodeSpec, receiver_node: str, version: int) -> Address:
    """With what address `node` itself speaks to a Pod: its Pod bridge's for its own Pods, else its own."""
    return node.pod_cidr_of(version)[1] if receiver_node == node.name else node.address_of(version)


def addresses_of(pod: Object) -> set[str]:
    """The Pod's, of each family."""
    status = pod.get("status", {})
    return {each["ip"] for each in status.get("podIPs") or [{"ip": status.get("podIP")}]}


def _direct(world: World, flow: Flow) -> Outcome:
    """Pod networking: nothing is translated, whatever the port number. At a node port of no
    Service, nobody listens."""
    to_node = any(flow.to in node.addresses for node in world.spec.nodes)
    if to_node and flow.port in world.spec.node_ports:
        return Outcome(Fate.RESET if flow.protocol == "TCP" else Fate.PORT_UNREACHABLE)
    for pod in world.pods:
        if str(flow.to) in addresses_of(pod):
            source = flow.sender.address
            if flow.sender.host:
                node = _node(world, flow.sender.node)
                source = outgoing_address(node, pod["spec"]["nodeName"], flow.to.version)
            return _received(world, flow, (Delivery(flow.to, flow.port, source, port_kept=True),))
    raise LookupError(f"{flow.to}:{flow.port}/{flow.protocol} is neither a Service nor a Pod nor a node port")


def _endpoints(world: World, aim: Aim, version: int) -> Iterator[Endpoint]:
    """The endpoints of a Service port, in one family, that are ready, or that terminate and still serve.

    `ready` counts as true where it is left out, `serving` as what `ready` is, `terminating` as false.
    """
    meta = aim.service["metadata"]
    for piece in world.slices:
        own = piece["metadata"]
        if own["namespace"] != meta["namespace"] or piece["addressType"] != f"IPv{version}":
            continue
        if own.get("labels", {}).get("kubernetes.io/service-name") != meta["name"]:
            continue
        for port in piece.get("ports") or ():
            if (port.get("name") or "", port["protocol"]) != (
                aim.port.get("name") or "",
                aim.port["protocol"],
            ):
                continue
            for endpoint in piece.get("endpoints") or ():
                conditions = endpoint.get("conditions", {})
                ready = conditions.get("ready") is not False
                ending = bool(conditions.get("terminating") and conditions.get("serving", ready) is not False)
                if ready or ending:
                    node = endpoint.get("nodeName") or ""
                    zones, nodes = (_hints(endpoint, kind) for kind in ("forZones", "forNodes"))
                    yield Endpoint(
                        ip_address(endpoint["addresses"][0]), port["port"], node, ready, zones, nodes
                    )


def _usable(endpoints: list[Endpoint]) -> list[Endpoint]:
    """The ready ones; if there is none, all."""
    return [e for e in endpoints if e.ready] or endpoints


def _hints(endpoint: Object, kind: str) -> frozenset[str]:
    return frozenset(hint["name"] for hint in (endpoint.get("hints") or {}).get(kind) or ())


def _nearest(endpoints: list[Endpoint], entry: NodeSpec) -> list[Endpoint]:
    """Those hinted for the node, else for its zone; all, if one has no hint or none is for it.

    Source: KEP-3015, KEP-2433. Endpoints that terminate are not sorted so.
    """
    ready = all(e.ready for e in endpoints)
    by_zone, by_node = [e.zones for e in endpoints], [e.nodes for e in endpoints]
    for name, hints in ((entry.name, by_node), (entry.labels.get(ZONE, ""), by_zone)):
        if ready and name and all(hints):
            chosen = [e for e, hinted in zip(endpoints, hints, strict=True) if name in hinted]
            if chosen:
                return chosen
    return endpoints


def _let_in(aim: Aim, flow: Flow) -> bool:
    """Ranges bind only the families that they are of."""
    asked = aim.service["spec"].get("loadBalancerSourceRanges", ()) if aim.balanced else ()
    ranges = [network for network in map(ip_network, asked) if network.version == flow.to.version]
    return not ranges or any(flow.sender.address in network for network in ranges)


def _local_only(world: World, aim: Aim, flow: Flow, entry: NodeSpec) -> bool:
    """Whether traffic policy Local is in force. It does not bind the cluster's own traffic outwards."""
    if not aim.external:
        return bool(aim.service["spec"].get("internalTrafficPolicy") == "Local")
    return _keeps_outside_source(aim) and not _of_cluster(world, flow, entry)


def _keeps_outside_source(aim: Aim) -> bool:
    return bool(aim.service["spec"].get("externalTrafficPolicy") == "Local")


def _of_cluster(world: World, flow: Flow, entry: NodeSpec) -> bool:
    """A Pod by its address, or the node that the packet enters by being there."""
    return _is_pods(world, flow.sender.address) or flow.sender.node == entry.name


def _is_pods(world: World, address: Address) -> bool:
    return any(address in cidr for cidr in world.spec.cluster_cidrs)


def _masqueraded(world: World, aim: Aim, flow: Flow, entry: NodeSpec, endpoint: Endpoint) -> bool:
    if endpoint.address == flow.sender.address:  # else the Pod would answer itself past the node: hairpin
        return True
    from_pod = _is_pods(world, flow.sender.address) and not flow.sender.host
    if aim.external and _keeps_outside_source(aim):
        return not from_pod and _of_cluster(world, flow, entry)
    return aim.external or not from_pod


def _deliver(world: World, aim: Aim, flow: Flow, entry: NodeSpec, endpoint: Endpoint) -> Delivery:
    masqueraded = _masqueraded(world, aim, flow, entry, endpoint)
    own = outgoing_address(entry, endpoint.node, endpoint.address.version)
    source = own if masqueraded else flow.sender.address
    return Delivery(endpoint.address, endpoint.port, source, port_kept=not masqueraded)


def _node(world: World, name: str) -> NodeSpec:
    return next(node for node in world.spec.nodes if node.name == name)
