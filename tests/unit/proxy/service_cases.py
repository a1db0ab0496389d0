"""Service ports for the tests, one for each situation the rules have to tell apart."""

from __future__ import annotations

from dataclasses import replace

from testbed.model.service import Endpoint, Protocol, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.options import ProxyOptions

NODE = "172.30.0.11"
OPTIONS = ProxyOptions(node="node01", cluster_cidr="10.244.0.0/16")
HERE = Endpoint("10.244.1.2", 8080, True)
THERE = Endpoint("10.244.2.2", 8080)


def service(name: str, ip: str, *endpoints: Endpoint, **fields: object) -> ServicePort:
    """A TCP Service port `default/NAME:http` at IP:80."""
    local = tuple(one for one in endpoints if one.local)
    refusal = Refusal.DROP if endpoints else Refusal.REJECT
    one = ServicePort(
        "default", name, "http", Protocol.TCP, ip, 80, cluster=Route(endpoints), local=Route(local, refusal)
    )
    return replace(one, **fields)  # type: ignore[arg-type]


SERVICES = [
    service("affinity", "10.96.0.10", HERE, THERE, affinity_seconds=10800),
    service("balancer", "10.96.0.11", HERE, node_port=30011, load_balancer_ips=("203.0.113.11",)),
    service(
        "checked",
        "10.96.0.12",
        HERE,
        THERE,
        node_port=30012,
        load_balancer_ips=("203.0.113.12",),
        external_local=True,
        health_check_node_port=30112,
    ),
    service("elsewhere", "10.96.0.13", THERE, node_port=30013, external_local=True),
    service("empty", "10.96.0.14", node_port=30014, external_ips=("198.51.100.14",)),
    service("inside", "10.96.0.15", THERE, internal_local=True),
    service("one", "10.96.0.16", HERE),
    service("outside", "10.96.0.17", HERE, external_ips=("198.51.100.17",)),
    service(
        "ranged",
        "10.96.0.18",
        THERE,
        node_port=30018,
        load_balancer_ips=("203.0.113.18",),
        source_ranges=("198.51.100.0/24",),
    ),
    service("two", "10.96.0.19", HERE, THERE, node_port=30019),
    replace(service("sctp", "10.96.0.21", HERE, THERE, node_port=30021), protocol=Protocol.SCTP),
    replace(service("udp", "10.96.0.20", HERE, THERE, node_port=30020), protocol=Protocol.UDP),
]
SNAPSHOT = Snapshot({(one.name, one.protocol.value): one for one in SERVICES}, (NODE,))
