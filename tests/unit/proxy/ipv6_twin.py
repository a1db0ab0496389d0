"""The same Services, options and packets in IPv6: each IPv4 address becomes the end of one in fd00::/96."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from testbed.model.service import Endpoint, Route, ServicePort, Snapshot
from testbed.proxy.options import ProxyOptions

PREFIX = int(IPv6Address("fd00::"))


def address(ip: str) -> str:
    return str(IPv6Address(PREFIX + int(IPv4Address(ip))))


def network(text: str) -> str:
    whole = IPv4Network(text, strict=False)
    return f"{address(str(whole.network_address))}/{96 + whole.prefixlen}"


def place(text: str) -> str:
    """`10.96.0.1:80` as `[fd00::a60:1]:80`."""
    ip, _, port = text.rpartition(":")
    return f"[{address(ip)}]:{port}"


def options(given: ProxyOptions) -> ProxyOptions:
    cidr = network(given.cluster_cidr) if given.cluster_cidr else ""
    return replace(given, family=6, cluster_cidr=cidr)


def service(given: ServicePort) -> ServicePort:
    return replace(
        given,
        cluster_ip=address(given.cluster_ip),
        external_ips=tuple(map(address, given.external_ips)),
        load_balancer_ips=tuple(map(address, given.load_balancer_ips)),
        source_ranges=tuple(map(network, given.source_ranges)),
        cluster=_route(given.cluster),
        local=_route(given.local),
    )


def snapshot(given: Snapshot) -> Snapshot:
    return replace(
        given,
        services={key: service(one) for key, one in given.services.items()},
        node_port_ips=tuple(map(address, given.node_port_ips)),
    )


def _route(given: Route) -> Route:
    return replace(given, endpoints=tuple(map(_endpoint, given.endpoints)))


def _endpoint(given: Endpoint) -> Endpoint:
    return replace(given, ip=address(given.ip))
