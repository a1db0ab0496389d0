"""The rules of nftables mode: one table, in which maps lead from Service addresses to chains. Pure.

Source of the structure: kubernetes pkg/proxy/nftables (KEP-3866). A packet to a Service takes one look-up in
a map, however many Services there are, and then goes
[external →] service (all endpoints) or local (those of this node) → endpoint → DNAT.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import collapse_addresses, ip_network
from typing import Any

from testbed.kernel.nft import Rules, Set, Table
from testbed.model.service import Endpoint, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.options import ProxyOptions

MARK = "0x00004000"
"""The bit of the packet mark that asks for masquerading, as nft prints it."""
MARK_MASQ = "jump mark-for-masquerade"
LOCAL_SOURCE = "fib saddr type local "
NEW = "ct state new "
AFFINITY_SIZE = 65535
"""Clients remembered for each endpoint."""

ADDRESS = "type ipv4_addr"
ADDRESS_VERDICTS = ("type ipv4_addr . inet_proto . inet_service : verdict",)
PORT_VERDICTS = ("type inet_proto . inet_service : verdict",)
SETS: Mapping[str, Rules] = {
    "cluster-ips": (ADDRESS,),
    "nodeport-ips": (ADDRESS,),
    "no-endpoint-services": ADDRESS_VERDICTS,
    "no-endpoint-nodeports": PORT_VERDICTS,
    "firewall-ips": ADDRESS_VERDICTS,
    "service-ips": ADDRESS_VERDICTS,
    "service-nodeports": PORT_VERDICTS,
}

HOOKS: Mapping[str, str] = {
    chain: f"type {kind} hook {hook} priority {priority}; policy accept;"
    for chain, kind, hook, priority in (
        ("filter-prerouting", "filter", "prerouting", -110),
        ("filter-output", "filter", "output", -110),
        ("nat-prerouting", "nat", "prerouting", -100),
        ("nat-output", "nat", "output", -100),
        ("filter-output-post-dnat", "filter", "output", -90),
        ("filter-input", "filter", "input", 0),
        ("filter-forward", "filter", "forward", 0),
        ("nat-postrouting", "nat", "postrouting", 100),
    )
}
"""The firewall decides before translation, which is at -100; refusals after it: they are for what is left."""

_REFUSALS = f"{NEW}jump service-endpoints-check"
_STRAY = f"{NEW}jump cluster-ips-check"
CHAINS: Mapping[str, Rules] = {
    "filter-prerouting": (f"{NEW}jump firewall-check",),
    "filter-output": (f"{NEW}jump firewall-check",),
    "nat-prerouting": ("jump services",),
    "nat-output": ("jump services",),
    "filter-output-post-dnat": (_REFUSALS, _STRAY),
    "filter-input": (f"{NEW}jump nodeport-endpoints-check", _REFUSALS),
    "filter-forward": ("ct state invalid drop", _REFUSALS, _STRAY),
    "nat-postrouting": ("jump masquerading",),
    "cluster-ips-check": ("ip daddr @cluster-ips reject",),
    "firewall-check": ("ip daddr . meta l4proto . th dport vmap @firewall-ips",),
    "mark-for-masquerade": (f"meta mark set meta mark | {MARK}",),
    "masquerading": (
        f"meta mark & {MARK} == 0x00000000 return",
        f"meta mark set meta mark ^ {MARK}",
        "masquerade fully-random",
    ),
    "nodeport-endpoints-check": (
        "ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",
    ),
    "reject-chain": ("reject",),
    "service-endpoints-check": ("ip daddr . meta l4proto . th dport vmap @no-endpoint-services",),
    "services": (
        "ip daddr . meta l4proto . th dport vmap @service-ips",
        "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
    ),
}
"""The chains that depend on no Service. cluster-ips-check refuses ports that no Service has."""

Element = tuple[str, str, str]
"""Set or map, key, verdict."""


@dataclass
class ServiceRules:
    """What one Service port needs: its chains and affinity sets, and its elements of the shared maps."""

    chains: dict[str, Rules] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    elements: list[Element] = field(default_factory=list)


def spelled(text: str, family: int) -> str:
    """What is written for IPv4, for a family."""
    if family == 4:
        return text
    return re.sub(r"\bip (?=[sd]addr )", "ip6 ", text).replace("ipv4_addr", "ipv6_addr")


def table(every: Iterable[ServiceRules], snapshot: Snapshot, family: int = 4) -> Table:
    """The whole table. Where two Services claim an address, the first has it, as in a list of rules."""
    chains = {chain: tuple(spelled(rule, family) for rule in rules) for chain, rules in CHAINS.items()}
    maps: dict[str, dict[str, str]] = {name: {} for name in SETS}
    sets = {
        name: Set(tuple(spelled(line, family) for line in definition), maps[name])
        for name, definition in SETS.items()
    }
    maps["nodeport-ips"].update(dict.fromkeys(snapshot.node_port_ips, ""))
    for rules in every:
        chains.update(rules.chains)
        sets.update(rules.sets)
        for name, key, verdict in rules.elements:
            maps[name].setdefault(key, verdict)
    return Table(HOOKS, chains, sets)


def service_rules(service: ServicePort, options: ProxyOptions) -> ServiceRules:
    """Everything that one Service port needs.

    A healthCheckNodePort needs nothing: a table cannot accept what another one drops.
    """
    rules = ServiceRules()
    inside = _chain("local" if service.internal_local else "service", service)
    for route, chain in _routes(service):
        if route:
            first = _masquerade(service, options) if chain == inside else ()
            rules.chains[chain] = (*first, *_balance(service, route, rules))
    rules.elements.append(("cluster-ips", service.cluster_ip, ""))
    if service.internal:
        rules.elements.append(("service-ips", _key(service, service.cluster_ip), f"goto {inside}"))
    else:
        rules.elements.append(_refuse(service, service.internal, service.cluster_ip))
    if service.is_public:
        _public(service, options, rules)
    if options.family == 6:
        rules.chains = {
            chain: tuple(spelled(rule, 6) for rule in lines) for chain, lines in rules.chains.items()
        }
    return rules


def _public(service: ServicePort, options: ProxyOptions, rules: ServiceRules) -> None:
    """Traffic to node port, external IPs and load balancer addresses."""
    if not service.external:
        rules.elements += [_refuse(service, service.external, ip) for ip in service.public_ips]
        if service.node_port:
            rules.elements.append(_refuse(service, service.external))
    if not (service.cluster or service.external):
        return
    external = _chain("external", service)
    rules.chains[external] = tuple(_external(service, options))
    goto = f"goto {external}"
    rules.elements += [("service-ips", _key(service, ip), goto) for ip in service.public_ips]
    if service.node_port:
        rules.elements.append(("service-nodeports", _key(service), goto))
    if service.load_balancer_ips and (allowed := _sources(service.source_ranges)):
        firewall = _chain("firewall", service)
        rules.chains[firewall] = (f"ip saddr != {allowed} drop",)
        rules.elements += [
            ("firewall-ips", _key(service, ip), f"goto {firewall}") for ip in service.load_balancer_ips
        ]


def _external(service: ServicePort, options: ProxyOptions) -> Iterator[str]:
    """Under policy Local, the cluster's own traffic goes everywhere, and the rest keeps its source."""
    everywhere = f"goto {_chain('service', service)}"
    if not service.external_local:
        yield from (MARK_MASQ, everywhere)
        return
    if service.cluster:
        if options.cluster_cidr:
            yield f"ip saddr {_network(options.cluster_cidr)} {everywhere}"
        yield f"{LOCAL_SOURCE}{MARK_MASQ}"
        yield f"{LOCAL_SOURCE}{everywhere}"
    if service.local:
        yield f"goto {_chain('local', service)}"


def _routes(service: ServicePort) -> Iterator[tuple[Route, str]]:
    """The routes that traffic can take, each with its chain."""
    if service.is_public or not service.internal_local:
        yield service.cluster, _chain("service", service)
    if service.internal_local or (service.external_local and service.is_public):
        yield service.local, _chain("local", service)


def _masquerade(service: ServicePort, options: ProxyOptions) -> Rules:
    """Traffic to the cluster IP from outside of the Pods' range."""
    match = f"ip daddr {service.cluster_ip} {service.protocol.lower()} dport {service.port} "
    if options.masquerade_all:
        return (f"{match}{MARK_MASQ}",)
    if options.cluster_cidr:
        return (f"{match}ip saddr != {_network(options.cluster_cidr)} {MARK_MASQ}",)
    return ()


def _balance(service: ServicePort, route: Route, rules: ServiceRules) -> Iterator[str]:
    """Who has affinity first, the others at random with equal chances."""
    chosen = [(one, _endpoint(service, one, rules)) for one in route.endpoints]
    if service.affinity_seconds:
        for one, chain in chosen:
            yield f"ip saddr @{_affinity(service, one)} goto {chain}"
    if len(chosen) == 1:
        yield f"goto {chosen[0][1]}"
    else:
        verdicts = ", ".join(f"{number} : goto {chain}" for number, (_, chain) in enumerate(chosen))
        yield f"numgen random mod {len(chosen)} vmap {{ {verdicts} }}"


def _endpoint(service: ServicePort, endpoint: Endpoint, rules: ServiceRules) -> str:
    """Masquerade what an endpoint sends to itself, remember the client if asked, translate."""
    chain = _chain("endpoint", service, endpoint)
    remember: Rules = ()
    if service.affinity_seconds:
        known = _affinity(service, endpoint)
        rules.sets[known] = Set(
            (
                spelled(ADDRESS, 6 if ":" in endpoint.ip else 4),
                f"size {AFFINITY_SIZE}",
                "flags dynamic,timeout",
                f"timeout {duration(service.affinity_seconds)}",
            )
        )
        remember = (f"update @{known} {{ ip saddr }}",)
    rules.chains[chain] = (
        f"ip saddr {endpoint.ip} {MARK_MASQ}",
        *remember,
        f"meta l4proto {service.protocol.lower()} dnat to {endpoint}",
    )
    return chain


def _refuse(service: ServicePort, route: Route, ip: str = "") -> Element:
    """For traffic that nobody can answer; without `ip`, for the node port."""
    verdict = "drop" if route.refusal is Refusal.DROP else "goto reject-chain"
    return "no-endpoint-services" if ip else "no-endpoint-nodeports", _key(service, ip), verdict


def _key(service: ServicePort, ip: str = "") -> str:
    """A front as the maps have it; without `ip`, the node port."""
    protocol = service.protocol.lower()
    return f"{ip} . {protocol} . {service.port}" if ip else f"{protocol} . {service.node_port}"


def _affinity(service: ServicePort, endpoint: Endpoint) -> str:
    """The set of an endpoint's clients. Its name holds the time, which a set cannot change."""
    return _chain("affinity", service, endpoint, str(service.affinity_seconds))


def _chain(kind: str, service: ServicePort, endpoint: Endpoint | None = None, more: str = "") -> str:
    """`endpoint-ULMVA6XW-default/web/tcp/http__10.244.1.2/8080`: unique by its hash, readable by the rest."""
    name = f"{service.namespace}/{service.service}/{service.protocol.lower()}"
    name += f"/{service.port_name}" if service.port_name else ""
    if endpoint:
        name += f"__{endpoint.ip}/{endpoint.port}".replace(":", ".")  # no colon in a chain's name
    digest = base64.b32encode(hashlib.sha256(f"{name} {more}".encode()).digest()).decode()[:8]
    return f"{kind}-{digest}-{name}"


def _network(text: str) -> str:
    """A network as nft prints it: a single address without its length."""
    return str(ip_network(text, strict=False)).removesuffix("/32").removesuffix("/128")


def _sources(ranges: Iterable[str]) -> str:
    """An anonymous set of networks, which must not overlap; "" for everybody."""
    networks: list[Any] = [ip_network(text, strict=False) for text in ranges]
    apart = [_network(str(one)) for one in collapse_addresses(networks)]
    if not apart or apart[0].endswith("/0"):
        return ""
    return apart[0] if len(apart) == 1 else f"{{ {', '.join(apart)} }}"


def duration(seconds: int) -> str:
    """A time as nft prints it: `1d2h3m4s`."""
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
