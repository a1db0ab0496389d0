"""The rules of iptables mode, Service by Service: kube-proxy's chains, comments and names. Pure.

Source of the structure: kubernetes pkg/proxy/iptables. A packet to a Service goes
KUBE-SERVICES → [KUBE-FW →] [KUBE-EXT →] KUBE-SVC (all endpoints) or KUBE-SVL (local ones) → KUBE-SEP → DNAT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from testbed.kernel.xtables import Rules
from testbed.model.service import Endpoint, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.modes.chains import (
    MARK,
    MARK_MASQ,
    POSTROUTING,
    chain_name,
    comment,
    host,
    mark_masq,
    port_match,
    port_unreachable,
    postrouting,
    service_chain,
    source,
)
from testbed.proxy.options import ProxyOptions

LOCAL_SOURCE = "-m addrtype --src-type LOCAL "
LOCAL_DESTINATION = "-m addrtype --dst-type LOCAL "
NEW = "-m conntrack --ctstate NEW "

_PORTALS = comment("kubernetes service portals") + "-j KUBE-SERVICES"
_EXTERNAL = NEW + comment("kubernetes externally-visible service portals") + "-j KUBE-EXTERNAL-SERVICES"
_LB_FIREWALL = NEW + comment("kubernetes load balancer firewall") + "-j KUBE-PROXY-FIREWALL"
_LOCALNET = "-j KUBE-FIREWALL"

JUMPS: Mapping[str, Mapping[str, Rules]] = {
    "filter": {
        "INPUT": (
            _LB_FIREWALL,
            comment("kubernetes health check service ports") + "-j KUBE-NODEPORTS",
            _EXTERNAL,
            _LOCALNET,
        ),
        "FORWARD": (
            _LB_FIREWALL,
            comment("kubernetes forwarding rules") + "-j KUBE-FORWARD",
            NEW + _PORTALS,
            _EXTERNAL,
        ),
        "OUTPUT": (_LB_FIREWALL, NEW + _PORTALS, _LOCALNET),
    },
    "nat": {
        "PREROUTING": (_PORTALS,),
        "OUTPUT": (_PORTALS,),
        "POSTROUTING": (comment("kubernetes postrouting rules") + f"-j {POSTROUTING}",),
    },
}
"""How packets come to our chains. Order matters: the load balancer firewall before KUBE-FORWARD accepts."""

FORWARD: Rules = (
    "-m conntrack --ctstate INVALID -j DROP",
    comment("kubernetes forwarding rules") + f"-m mark --mark {MARK}/{MARK} -j ACCEPT",
    comment("kubernetes forwarding conntrack rule") + "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
)
FIREWALL: Rules = (
    # route_localnet lets martians in from the wire; CVE-2020-8558
    "! -s 127.0.0.0/8 -d 127.0.0.0/8 "
    + comment("block incoming localnet connections")
    + "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
)


@dataclass
class ServiceRules:
    """What one Service port puts into each shared chain, and its own nat chains, leaves first."""

    chains: dict[str, Rules] = field(default_factory=dict)
    nat: dict[str, list[str]] = field(default_factory=lambda: {"KUBE-NODEPORTS": [], "KUBE-SERVICES": []})
    filter: dict[str, list[str]] = field(
        default_factory=lambda: {
            "KUBE-NODEPORTS": [],
            "KUBE-SERVICES": [],
            "KUBE-EXTERNAL-SERVICES": [],
            "KUBE-PROXY-FIREWALL": [],
        }
    )


def service_rules(service: ServicePort, options: ProxyOptions) -> ServiceRules:
    """Everything that one Service port needs."""
    rules = ServiceRules()
    _cluster_ip(service, options, rules)
    if service.is_public:
        _public(service, options, rules)
    if service.health_check_node_port:
        rules.filter["KUBE-NODEPORTS"].append(
            f"-p tcp {comment(f'{service.name} health check node port')}"
            f"-m tcp --dport {service.health_check_node_port} -j ACCEPT"
        )
    return rules


def jumps(family: int) -> Mapping[str, Mapping[str, Rules]]:
    """How packets come to our chains. Only IPv4 has martians of 127.0.0.0/8 to stop."""
    if family == 4:
        return JUMPS
    return {
        table: {chain: tuple(rule for rule in rules if rule != _LOCALNET) for chain, rules in chains.items()}
        for table, chains in JUMPS.items()
    }


def static_chains(snapshot: Snapshot, family: int = 4) -> tuple[dict[str, Rules], dict[str, Rules], Rules]:
    """(nat, filter) chains that depend on no Service, and the last rules of nat's KUBE-SERVICES."""
    nat = {MARK_MASQ: mark_masq(), POSTROUTING: postrouting()}
    note = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    if snapshot.node_ports_anywhere:
        not_loopback = "! -d ::1/128 " if family == 6 else ""  # nothing can come from there
        last: Rules = (f"{not_loopback}{note}{LOCAL_DESTINATION}-j KUBE-NODEPORTS",)
    else:
        last = tuple(f"-d {host(ip)} {note}-j KUBE-NODEPORTS" for ip in snapshot.node_port_ips)
    filters = {"KUBE-FORWARD": FORWARD}
    return nat, filters if family == 6 else {**filters, "KUBE-FIREWALL": FIREWALL}, last


def _cluster_ip(service: ServicePort, options: ProxyOptions, rules: ServiceRules) -> None:
    """Traffic to the cluster IP, and the chains KUBE-SVC and KUBE-SVL with their endpoints."""
    match = port_match(service, "cluster IP", service.cluster_ip)
    masquerade: Rules = ()
    if options.masquerade_all:
        masquerade = (f"{match}-j {MARK_MASQ}",)
    elif options.cluster_cidr:
        off_cluster = source(options.cluster_cidr, inverted=True)
        masquerade = (
            port_match(service, "cluster IP", service.cluster_ip, sources=off_cluster) + f"-j {MARK_MASQ}",
        )
    inside = internal_chain(service)
    for route, chain in _routes(service):
        if route:
            _endpoints(service, route, chain, masquerade if chain == inside else (), rules)
    if service.internal:
        rules.nat["KUBE-SERVICES"].append(f"{match}-j {inside}")
    else:
        rules.filter["KUBE-SERVICES"].append(_refuse(service, service.internal, service.cluster_ip))


def _public(service: ServicePort, options: ProxyOptions, rules: ServiceRules) -> None:
    """Traffic to node port, external IPs and load balancer addresses, through KUBE-EXT."""
    external = service_chain("KUBE-EXT-", service)
    entry = service_chain("KUBE-FW-", service) if service.source_ranges else external
    if not service.external:
        rules.filter["KUBE-EXTERNAL-SERVICES"] += [
            _refuse(service, service.external, ip) for ip in service.public_ips
        ]
        if service.node_port:
            rules.filter["KUBE-EXTERNAL-SERVICES"].append(_refuse(service, service.external))
    if service.cluster or service.external:
        rules.chains[external] = _external_chain(service, options)
        nat = rules.nat
        nat["KUBE-SERVICES"] += [
            port_match(service, "external IP", ip) + f"-j {external}" for ip in service.external_ips
        ]
        nat["KUBE-SERVICES"] += [
            port_match(service, "loadbalancer IP", ip) + f"-j {entry}" for ip in service.load_balancer_ips
        ]
        if service.node_port:
            nat["KUBE-NODEPORTS"].append(port_match(service, "", port=service.node_port) + f"-j {external}")
        if service.source_ranges and service.load_balancer_ips:
            _source_ranges(service, entry, external, rules)


def _external_chain(service: ServicePort, options: ProxyOptions) -> Rules:
    """KUBE-EXT. Under policy Local, the cluster's own traffic goes everywhere, the rest keeps its source."""
    name, everywhere = service.name, service_chain("KUBE-SVC-", service)
    if not service.external_local:
        said = comment(f"masquerade traffic for {name} external destinations")
        return (f"{said}-j {MARK_MASQ}", f"-j {everywhere}")
    rules = []
    if service.cluster:
        if options.cluster_cidr:
            said = comment(f"pod traffic for {name} external destinations")
            rules.append(f"{source(options.cluster_cidr)}{said}-j {everywhere}")
        said = comment(f"masquerade LOCAL traffic for {name} external destinations")
        rules.append(f"{said}{LOCAL_SOURCE}-j {MARK_MASQ}")
        said = comment(f"route LOCAL traffic for {name} external destinations")
        rules.append(f"{said}{LOCAL_SOURCE}-j {everywhere}")
    if service.local:
        rules.append(f"-j {service_chain('KUBE-SVL-', service)}")
    return tuple(rules)


def _source_ranges(service: ServicePort, chain: str, external: str, rules: ServiceRules) -> None:
    """KUBE-FW lets `loadBalancerSourceRanges` through; what it does not send on, the filter table drops."""
    said = comment(f"{service.name} loadbalancer IP")
    rules.chains[chain] = (
        *(f"{source(network)}{said}-j {external}" for network in service.source_ranges),
        comment(f"other traffic to {service.name} will be dropped by KUBE-PROXY-FIREWALL").rstrip(),
    )
    rules.filter["KUBE-PROXY-FIREWALL"] += [
        port_match(service, f"traffic not accepted by {chain}", ip) + "-j DROP"
        for ip in service.load_balancer_ips
    ]


def internal_chain(service: ServicePort) -> str:
    return service_chain("KUBE-SVL-" if service.internal_local else "KUBE-SVC-", service)


def _routes(service: ServicePort) -> list[tuple[Route, str]]:
    """The routes that traffic can take, each with its chain."""
    routes = []
    if service.is_public or not service.internal_local:
        routes.append((service.cluster, service_chain("KUBE-SVC-", service)))
    if service.internal_local or (service.external_local and service.is_public):
        routes.append((service.local, service_chain("KUBE-SVL-", service)))
    return routes


def _endpoints(service: ServicePort, route: Route, chain: str, first: Rules, rules: ServiceRules) -> None:
    """One balancing chain: who has affinity first, the others at random with equal chances."""
    chosen = [(endpoint, _endpoint_chain(service, endpoint, rules)) for endpoint in route.endpoints]
    lines = list(first)
    if service.affinity_seconds:
        lines += [
            f"{comment(f'{service.name} -> {endpoint}')}-m recent --rcheck "
            f"--seconds {service.affinity_seconds} --reap {_recent(target, endpoint)}-j {target}"
            for endpoint, target in chosen
        ]
    left = len(chosen)
    for endpoint, target in chosen:
        chance = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
        lines.append(f"{comment(f'{service.name} -> {endpoint}')}{chance}-j {target}")
        left -= 1
    rules.chains[chain] = tuple(lines)


def _endpoint_chain(service: ServicePort, endpoint: Endpoint, rules: ServiceRules) -> str:
    """KUBE-SEP: masquerade what an endpoint sends to itself, remember the client if asked, translate."""
    protocol = service.protocol.lower()
    chain = chain_name("KUBE-SEP-", service.name, protocol, str(endpoint))
    said = comment(service.name)
    recent = f"-m recent --set {_recent(chain, endpoint)}" if service.affinity_seconds else ""
    rules.chains[chain] = (
        f"-s {host(endpoint.ip)} {said}-j {MARK_MASQ}",
        f"-p {protocol} {said}{recent}-m {protocol} -j DNAT --to-destination {endpoint}",
    )
    return chain


def _recent(chain: str, endpoint: Endpoint) -> str:
    mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" if ":" in endpoint.ip else "255.255.255.255"
    return f"--name {chain} --mask {mask} --rsource "


def probability(choices: int) -> str:
    """1/choices, rounded to the 31 bits that the kernel keeps (xt_statistic), as iptables-save prints it."""
    return f"{round(1 / choices * 2**31) / 2**31:.11f}"


def _refuse(service: ServicePort, route: Route, ip: str = "") -> str:
    """The filter rule for traffic that nobody can answer; without `ip`, for the node port."""
    drop = route.refusal is Refusal.DROP
    match = "" if ip else LOCAL_DESTINATION
    port = 0 if ip else service.node_port
    family = 6 if ":" in service.cluster_ip else 4
    target = "DROP" if drop else f"REJECT --reject-with {port_unreachable(family)}"
    note = "has no local endpoints" if drop else "has no endpoints"
    return port_match(service, note, ip, port, match=match) + f"-j {target}"


def joined(every: Iterable[ServiceRules], part: str) -> dict[str, list[str]]:
    """The shared chains of one table with the rules of all Services, in order."""
    chains: dict[str, list[str]] = {chain: [] for chain in getattr(ServiceRules(), part)}
    for rules in every:
        for chain, lines in getattr(rules, part).items():
            if lines:
                chains[chain] += lines
    return chains
