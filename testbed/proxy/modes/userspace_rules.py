"""The redirect rules of userspace mode: from each Service address to the port its listener has. Pure.

Source of the chains: kubernetes pkg/proxy/userspace, removed in 1.26. What nobody can answer is
refused in the filter table as in iptables mode; upstream would accept the connection and close it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Rules
from testbed.model.families import ANYWHERE, bracketed
from testbed.model.service import Protocol, Route, ServicePort, Snapshot
from testbed.proxy.dataplane.control import Key
from testbed.proxy.modes.chains import comment, port_match, source
from testbed.proxy.modes.iptables_rules import JUMPS as IPTABLES_JUMPS
from testbed.proxy.modes.iptables_rules import ServiceRules, joined
from testbed.proxy.options import ProxyOptions

CONTAINER, HOST = "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"
NODEPORT_CONTAINER, NODEPORT_HOST = "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"

_CLUSTER_IPS = comment("handle ClusterIPs; NOTE: this must be before the NodePort rules")
_NODE_PORTS = "-m addrtype --dst-type LOCAL " + comment(
    "handle service NodePorts; NOTE: this must be the last rule in the chain"
)
JUMPS: Mapping[str, Mapping[str, Rules]] = {
    "nat": {
        "PREROUTING": (f"{_CLUSTER_IPS}-j {CONTAINER}", f"{_NODE_PORTS}-j {NODEPORT_CONTAINER}"),
        "OUTPUT": (f"{_CLUSTER_IPS}-j {HOST}", f"{_NODE_PORTS}-j {NODEPORT_HOST}"),
    },
    "filter": {
        chain: tuple(
            rule for rule in rules if rule.endswith(("-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"))
        )
        for chain, rules in IPTABLES_JUMPS["filter"].items()
    },
}
"""From PREROUTING what comes to this node (CONTAINER), from OUTPUT what the node itself sends (HOST)."""


def key(service: ServicePort, route: Route) -> Key:
    """The listener that serves `route` of the Service port."""
    which = "local" if route is service.local and route != service.cluster else "cluster"
    return Key(service.name, service.protocol.value, which, bool(service.affinity_seconds))


def carried(service: ServicePort) -> ServicePort:
    """What the data plane can serve of it. SCTP is refused at once: its messages are no stream of bytes.

    Upstream had no SCTP in this mode either; there the packets went their way past the rules.
    """
    return replace(service, cluster=Route(), local=Route()) if service.protocol is Protocol.SCTP else service


def routes(service: ServicePort) -> Iterator[Route]:
    """The routes of a Service port that need a listener."""
    if service.protocol is Protocol.SCTP:
        return
    for route in (service.cluster, service.local):
        used = route is service.internal or (
            service.is_public and route in (service.external, service.cluster)
        )
        if used and route:
            yield route


def redirects(
    snapshot: Snapshot, ports: Mapping[Key, int], refusals: Iterable[ServiceRules], options: ProxyOptions
) -> Wanted:
    """Every rule, for listeners on `ports`. Of `refusals`, what the filter table holds is taken."""
    chains: dict[str, list[str]] = {CONTAINER: [], HOST: [], NODEPORT_CONTAINER: [], NODEPORT_HOST: []}
    home = bracketed(snapshot.node_port_ips[0]) if snapshot.node_port_ips else ""
    for service in snapshot.services.values():
        for from_host, match, route in _portals(service, options):
            if port := ports.get(key(service, route), 0) if route else 0:
                target = f"DNAT --to-destination {home}:{port}" if from_host and home else _redirect(port)
                chains[HOST if from_host else CONTAINER].append(f"{match}-j {target}")
        for from_host, match, route in _node_ports(service, snapshot, options):
            if port := ports.get(key(service, route), 0) if route else 0:
                target = f"DNAT --to-destination {home}:{port}" if from_host and home else _redirect(port)
                chains[NODEPORT_HOST if from_host else NODEPORT_CONTAINER].append(f"{match}-j {target}")
    return Wanted({"nat": _frozen(chains), "filter": _frozen(joined(refusals, "filter"))}, JUMPS)


Portal = tuple[bool, str, Route]
"""From the host itself?, the match, and where it leads."""


def _portals(service: ServicePort, options: ProxyOptions) -> Iterator[Portal]:
    for from_host in (False, True):
        yield from_host, port_match(service, "", service.cluster_ip), service.internal
        for ip in service.external_ips:
            yield from _outside(service, from_host, options, ip)
        for ip in service.load_balancer_ips:
            for network in service.source_ranges or (ANYWHERE[options.family],):
                yield from _outside(service, from_host, options, ip, network)


def _node_ports(service: ServicePort, snapshot: Snapshot, options: ProxyOptions) -> Iterator[Portal]:
    if service.node_port:
        for from_host in (False, True):
            for ip in ("",) if snapshot.node_ports_anywhere else snapshot.node_port_ips:
                yield from _outside(service, from_host, options, ip, port=service.node_port)


def _outside(
    service: ServicePort,
    from_host: bool,
    options: ProxyOptions,
    ip: str,
    network: str = "",
    port: int = 0,
) -> Iterator[Portal]:
    """Traffic to an outside address: policy Local binds only what comes from outside of the cluster."""
    origin = source(network or ANYWHERE[options.family])
    if from_host:
        yield True, port_match(service, "", ip, port, origin), service.cluster
        return
    if service.external_local and options.cluster_cidr:
        yield False, port_match(service, "", ip, port, source(options.cluster_cidr)), service.cluster
    yield (
        False,
        port_match(service, "", ip, port, origin),
        service.external,
    )


def _redirect(port: int) -> str:
    return f"REDIRECT --to-ports {port}"


def _frozen(chains: Mapping[str, list[str]]) -> dict[str, Rules]:
    return {chain: tuple(rules) for chain, rules in chains.items()}
