"""What IPVS mode needs besides IPVS: the sets, and the few rules that masquerade and filter by them. Pure.

Source: kubernetes pkg/proxy/ipvs (names, sets, order). The rules stay the same however many Services there
are, but for a Service whose policy Local finds no endpoint here: IPVS cannot drop, so a rule does.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from testbed.kernel.xtables import Rules
from testbed.model.service import Protocol, Refusal, ServicePort
from testbed.proxy.modes.chains import (
    MARK,
    MARK_MASQ,
    POSTROUTING,
    comment,
    host,
    mark_masq,
    port_match,
    port_unreachable,
    postrouting,
    source,
)
from testbed.proxy.options import ProxyOptions

SETS: Mapping[str, str] = {
    "KUBE-LOOP-BACK": "hash:ip,port,ip",
    "KUBE-CLUSTER-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP": "hash:ip,port",
    "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER": "hash:ip,port",
    "KUBE-LOAD-BALANCER-LOCAL": "hash:ip,port",
    "KUBE-LOAD-BALANCER-FW": "hash:ip,port",
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
    "KUBE-NODE-PORT-TCP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
    "KUBE-NODE-PORT-UDP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
    "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    "KUBE-HEALTH-CHECK-NODE-PORT": "bitmap:port",
    "KUBE-IPVS-IPS": "hash:ip",
}
"""A bitmap of ports knows those of TCP and UDP only (linux/net/netfilter/ipset, ip_set_get_ip_port)."""
NUMBERS = {
    Protocol.TCP: socket.IPPROTO_TCP,
    Protocol.UDP: socket.IPPROTO_UDP,
    Protocol.SCTP: socket.IPPROTO_SCTP,
}
NEW = "-m conntrack --ctstate NEW "

JUMPS: Mapping[str, Mapping[str, Rules]] = {
    "nat": {
        "PREROUTING": (comment("kubernetes service portals") + "-j KUBE-SERVICES",),
        "OUTPUT": (comment("kubernetes service portals") + "-j KUBE-SERVICES",),
        "POSTROUTING": (comment("kubernetes postrouting rules") + f"-j {POSTROUTING}",),
    },
    "filter": {
        "INPUT": (
            comment("kubernetes ipvs access filter") + "-j KUBE-IPVS-FILTER",
            comment("kube-proxy firewall rules") + "-j KUBE-PROXY-FIREWALL",
            comment("kubernetes health check rules") + "-j KUBE-NODE-PORT",
            NEW + comment("kubernetes service portals") + "-j KUBE-SERVICES",
        ),
        "FORWARD": (
            comment("kube-proxy firewall rules") + "-j KUBE-PROXY-FIREWALL",
            comment("kubernetes forwarding rules") + "-j KUBE-FORWARD",
        ),
        "OUTPUT": (
            comment("kubernetes ipvs access filter") + "-j KUBE-IPVS-OUT-FILTER",
            NEW + comment("kubernetes service portals") + "-j KUBE-SERVICES",
        ),
    },
}


def in_set(name: str, *directions: str) -> str:
    return f"-m set --match-set {name} {','.join(directions)} "


def _by_pair(name: str) -> str:
    """Address and port are those of the packet's destination."""
    return in_set(name, "dst", "dst")


def set_name(name: str, family: int) -> str:
    """A set of SETS as it is called for a family. 31 letters are the most that a set's name may have."""
    return name if family == 4 else f"KUBE-6-{name.removeprefix('KUBE-')}"[:31]


def spelled(chains: Mapping[str, Rules], family: int) -> dict[str, Rules]:
    """What is written for IPv4, for a family."""

    def rule(text: str) -> str:
        text = text.replace(port_unreachable(4), port_unreachable(family))
        return re.sub(r"(--match-set )(\S+)", lambda found: found[1] + set_name(found[2], family), text)

    return {chain: tuple(map(rule, rules)) for chain, rules in chains.items()}


def nat_chains(options: ProxyOptions) -> dict[str, Rules]:
    cluster_ips = comment("Kubernetes service cluster ip + port for masquerade purpose")
    if options.masquerade_all:
        masquerade = cluster_ips + _by_pair("KUBE-CLUSTER-IP")
    elif options.cluster_cidr:
        off_cluster = source(options.cluster_cidr, inverted=True)
        masquerade = off_cluster + cluster_ips + _by_pair("KUBE-CLUSTER-IP")
    else:  # what the node itself sends has the cluster IP as its source, since that is local here
        masquerade = cluster_ips + in_set("KUBE-CLUSTER-IP", "src", "dst")
    external = comment("Kubernetes service external ip + port for masquerade and filter purpose")
    hairpin = comment("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose")
    return {
        MARK_MASQ: mark_masq(),
        POSTROUTING: (
            # what is marked is masqueraded below, and loses its mark there
            f"-m mark ! --mark {MARK}/{MARK} "
            + hairpin
            + in_set("KUBE-LOOP-BACK", "dst", "dst", "src")
            + "-j MASQUERADE",
            *postrouting(),
        ),
        "KUBE-LOAD-BALANCER": (
            comment("Kubernetes service load balancer ip + port with externalTrafficPolicy=local")
            + _by_pair("KUBE-LOAD-BALANCER-LOCAL")
            + "-j RETURN",
            f"-j {MARK_MASQ}",
        ),
        "KUBE-NODE-PORT": tuple(
            rule for protocol in ("TCP", "UDP", "SCTP") for rule in _node_port_rules(protocol)
        ),
        "KUBE-SERVICES": (
            comment("Kubernetes service lb portal")
            + _by_pair("KUBE-LOAD-BALANCER")
            + "-j KUBE-LOAD-BALANCER",
            f"{masquerade}-j {MARK_MASQ}",
            external + _by_pair("KUBE-EXTERNAL-IP") + f"-j {MARK_MASQ}",
            "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
            _by_pair("KUBE-CLUSTER-IP") + "-j ACCEPT",
            _by_pair("KUBE-LOAD-BALANCER") + "-j ACCEPT",
        ),
    }


def _node_port_rules(protocol: str) -> Rules:
    local = comment(f"Kubernetes nodeport {protocol} port with externalTrafficPolicy=local")
    masquerade = comment(f"Kubernetes nodeport {protocol} port for masquerade purpose")
    match = f"-p {protocol.lower()} "
    keeping, all_of_them = node_port_set(protocol, local=True), node_port_set(protocol)
    where = ("dst", "dst") if SETS[all_of_them] == "hash:ip,port" else ("dst",)
    return (
        match + local + in_set(keeping, *where) + "-j RETURN",
        match + masquerade + in_set(all_of_them, *where) + f"-j {MARK_MASQ}",
    )


def node_port_set(protocol: str, *, local: bool = False) -> str:
    """The set of the protocol's node ports; `local`: of those with policy Local."""
    return f"KUBE-NODE-PORT-{'LOCAL-' * local}{protocol}{'-HASH' * (protocol == 'SCTP')}"


def filter_chains(refusals: list[str], shut_out: list[str]) -> dict[str, Rules]:
    """`refusals` and `shut_out` are the rules of `refusal_rules` and `node_shut_out` of every Service."""
    healthy = comment("Kubernetes health check node port")
    open_fronts = tuple(
        _by_pair(name) + "-j RETURN"
        for name in (
            "KUBE-LOAD-BALANCER",
            "KUBE-CLUSTER-IP",
            "KUBE-EXTERNAL-IP",
            "KUBE-EXTERNAL-IP-LOCAL",
        )
    )
    closed = NEW + in_set("KUBE-IPVS-IPS", "dst") + "-j REJECT --reject-with icmp-port-unreachable"
    checks = in_set("KUBE-HEALTH-CHECK-NODE-PORT", "dst")
    return {
        "KUBE-SOURCE-RANGES-FIREWALL": (
            in_set("KUBE-LOAD-BALANCER-SOURCE-CIDR", "dst", "dst", "src") + "-j RETURN",
            "-j DROP",
        ),
        "KUBE-PROXY-FIREWALL": (
            comment("Kubernetes service load balancer ip + port for load balancer with sourceRange")
            + _by_pair("KUBE-LOAD-BALANCER-FW")
            + "-j KUBE-SOURCE-RANGES-FIREWALL",
        ),
        "KUBE-NODE-PORT": (healthy + checks + "-j ACCEPT",),
        "KUBE-FORWARD": (
            comment("kubernetes forwarding rules") + f"-m mark --mark {MARK}/{MARK} -j ACCEPT",
            comment("kubernetes forwarding conntrack rule")
            + "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
        # the cluster IPs are this host's addresses: keep its own services from answering there
        "KUBE-IPVS-FILTER": (*open_fronts, checks + "-j RETURN", closed),
        "KUBE-IPVS-OUT-FILTER": (*shut_out, *open_fronts, closed),
        "KUBE-SERVICES": tuple(refusals),
    }


def refusal_rules(service: ServicePort, options: ProxyOptions) -> list[str]:
    """Drop what the policy Local leaves without an endpoint; the cluster's own traffic may go elsewhere."""
    note = "has no local endpoints"
    rules = []
    if not service.internal and service.internal.refusal is Refusal.DROP:
        rules.append(port_match(service, note, service.cluster_ip) + "-j DROP")
    if service.is_public and not service.external and service.external.refusal is Refusal.DROP:
        outside = source(options.cluster_cidr, inverted=True) if options.cluster_cidr else ""
        not_ours = "-m addrtype ! --src-type LOCAL "
        rules += [
            port_match(service, note, ip, sources=outside, match=not_ours) + "-j DROP"
            for ip in service.public_ips
        ]
        if service.node_port:
            local = "-m addrtype ! --src-type LOCAL --dst-type LOCAL "
            rules.append(port_match(service, note, "", service.node_port, outside, local) + "-j DROP")
    return rules


def node_shut_out(service: ServicePort, node_ip: str) -> list[str]:
    """Drop what the node itself sends to load balancers whose source ranges it is not in.

    It sends from the address that it sends to, since that is local, and past the sets: IPVS translates before
    the filter table's OUTPUT (kubernetes #119656).
    """
    ranges = [ip_network(text, strict=False) for text in service.source_ranges]
    if not ranges or any(node_ip and ip_address(node_ip) in network for network in ranges):
        return []
    return [
        f"-s {host(ip)} -m ipvs --vproto {NUMBERS[service.protocol]} --vaddr {ip} "
        f"--vport {service.port} -j DROP"
        for ip in service.load_balancer_ips
    ]


Entry = tuple[str, str]
"""A set and an entry of it."""


def set_entries(service: ServicePort) -> list[Entry]:
    """What one Service port puts into the sets, spelled as `ipset save` has it.

    What begins with a comma is for each address of the node.
    """
    protocol = service.protocol.lower()
    single = "/128" if ":" in service.cluster_ip else "/32"
    local = "-LOCAL" if service.external_local else ""

    def pair(ip: str) -> str:
        return f"{ip},{protocol}:{service.port}"

    entries = [("KUBE-CLUSTER-IP", pair(service.cluster_ip)), ("KUBE-IPVS-IPS", service.cluster_ip)]
    entries += [(f"KUBE-EXTERNAL-IP{local}", pair(ip)) for ip in service.external_ips]
    for ip in service.load_balancer_ips:
        entries.append(("KUBE-LOAD-BALANCER", pair(ip)))
        if service.external_local:
            entries.append(("KUBE-LOAD-BALANCER-LOCAL", pair(ip)))
        if service.source_ranges and not any(one.endswith("/0") for one in service.source_ranges):
            entries.append(("KUBE-LOAD-BALANCER-FW", pair(ip)))
            entries += [
                ("KUBE-LOAD-BALANCER-SOURCE-CIDR", f"{pair(ip)},{network.removesuffix(single)}")
                for network in service.source_ranges
            ]
    entries += [("KUBE-IPVS-IPS", ip) for ip in service.public_ips]
    if service.node_port:
        number = str(service.node_port)
        port = f",{protocol}:{number}" if service.protocol is Protocol.SCTP else number
        entries.append((node_port_set(service.protocol), port))
        if service.external_local:
            entries.append((node_port_set(service.protocol, local=True), port))
    if service.health_check_node_port:
        entries.append(("KUBE-HEALTH-CHECK-NODE-PORT", str(service.health_check_node_port)))
    entries += [
        ("KUBE-LOOP-BACK", f"{one.ip},{protocol}:{one.port},{one.ip}")
        for one in service.endpoints
        if one.local
    ]
    return entries
