"""Packets, and what becomes of each: rows for every mode whose rendered rules can be traced."""

from __future__ import annotations

import ipv6_twin
from netfilter import Fate, Packet

from testbed.model.service import Endpoint, Protocol, Refusal, Route, ServicePort, Snapshot
from testbed.proxy.options import ProxyOptions

NODE, CLIENT, FAR_POD = "172.30.0.11", "172.30.0.250", "10.244.2.9"
HERE, THERE = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080)
POD, OTHER = HERE.ip, "10.244.1.3"
LB, EXTERNAL = "203.0.113.1", "198.51.100.1"
OPTIONS = ProxyOptions(node="node01", cluster_cidr="10.244.0.0/16")
BOTH, ONE, FAR = {str(HERE), str(THERE)}, {str(HERE)}, {str(THERE)}


def service(number: int, *endpoints: Endpoint, **fields: object) -> ServicePort:
    """`s{number}` at 10.96.0.{number}:80, node port 30000 + number."""
    local = tuple(one for one in endpoints if one.local)
    return ServicePort(
        "default",
        f"s{number}",
        "",
        Protocol.TCP,
        f"10.96.0.{number}",
        80,
        30000 + number,
        cluster=Route(endpoints),
        local=Route(local, Refusal.DROP if endpoints else Refusal.REJECT),
        **fields,  # type: ignore[arg-type]
    )


SERVICES = [
    service(1, HERE, THERE, external_ips=(EXTERNAL,)),
    service(2),
    service(3, HERE, THERE, external_local=True),
    service(4, THERE, external_local=True),
    service(5, HERE, THERE, internal_local=True),
    service(6, THERE, internal_local=True),
    service(7, HERE, load_balancer_ips=(LB,), source_ranges=("172.30.0.0/25",)),
    service(8, HERE, THERE, affinity_seconds=10),
]
SNAPSHOT = Snapshot({(one.name, one.protocol.value): one for one in SERVICES}, (NODE,))

PLAIN, HIDDEN = False, True
Row = tuple[str, str, set[str] | str, bool]
ROWS: list[Row] = [
    # cluster IP: masqueraded only from off the cluster
    (POD, "10.96.0.1:80", BOTH, PLAIN),
    (FAR_POD, "10.96.0.1:80", BOTH, PLAIN),
    (CLIENT, "10.96.0.1:80", BOTH, HIDDEN),
    (NODE, "10.96.0.1:80", BOTH, HIDDEN),
    (CLIENT, "10.96.0.8:80", BOTH, HIDDEN),
    # another port is nobody's
    (POD, "10.96.0.1:81", {"10.96.0.1:81"}, PLAIN),
    # node port and external IP
    (CLIENT, f"{NODE}:30001", BOTH, HIDDEN),
    (NODE, f"{NODE}:30001", BOTH, HIDDEN),
    (POD, f"{NODE}:30001", BOTH, HIDDEN),
    (CLIENT, f"{EXTERNAL}:80", BOTH, HIDDEN),
    (CLIENT, f"{CLIENT}:30001", {f"{CLIENT}:30001"}, PLAIN),
    # nobody
    (POD, "10.96.0.2:80", "REJECT", PLAIN),
    (NODE, "10.96.0.2:80", "REJECT", PLAIN),
    (CLIENT, f"{NODE}:30002", "REJECT", PLAIN),
    # external policy Local: from outside with its own address, to endpoints here; from inside anywhere
    (CLIENT, f"{NODE}:30003", ONE, PLAIN),
    (OTHER, f"{NODE}:30003", BOTH, PLAIN),
    (NODE, f"{NODE}:30003", BOTH, HIDDEN),
    (CLIENT, f"{NODE}:30004", "DROP", PLAIN),
    (OTHER, f"{NODE}:30004", FAR, PLAIN),
    (NODE, f"{NODE}:30004", FAR, HIDDEN),
    (POD, "10.96.0.4:80", FAR, PLAIN),
    # internal policy Local
    (OTHER, "10.96.0.5:80", ONE, PLAIN),
    (OTHER, "10.96.0.6:80", "DROP", PLAIN),
    (CLIENT, f"{NODE}:30006", FAR, HIDDEN),
    # source ranges bind the load balancer only
    (CLIENT, f"{LB}:80", "DROP", PLAIN),
    ("172.30.0.12", f"{LB}:80", ONE, HIDDEN),
    (CLIENT, f"{NODE}:30007", ONE, HIDDEN),
    # Pod to Pod is left alone
    (POD, "10.244.2.2:8080", FAR, PLAIN),
    (CLIENT, "10.244.1.2:8080", ONE, PLAIN),
]
"""Source, destination, endpoints or verdict, whether the source is hidden."""


def apart(row: Row) -> Row:
    """Not from an endpoint itself, which would hide the source: hairpin, tested apart."""
    return (OTHER, *row[1:]) if row[0] == POD and row[2] == BOTH else row


def _twin(source: str, destination: str, outcome: set[str] | str, hidden: bool) -> Row:
    there = outcome if isinstance(outcome, str) else set(map(ipv6_twin.place, outcome))
    return ipv6_twin.address(source), ipv6_twin.place(destination), there, hidden


ROWS_6 = [_twin(*apart(row)) for row in ROWS]
SNAPSHOT_6, OPTIONS_6 = ipv6_twin.snapshot(SNAPSHOT), ipv6_twin.options(OPTIONS)
"""The same in IPv6."""


def packet(source: str, destination: str, protocol: str = "tcp") -> Packet:
    ip, _, port = destination.rpartition(":")
    local = frozenset({NODE, ipv6_twin.address(NODE)})
    return Packet(source, ip.strip("[]"), int(port), protocol, local=local)


def expected(outcome: set[str] | str, hidden: bool) -> Fate:
    return Fate(outcome) if isinstance(outcome, str) else Fate("ACCEPT", frozenset(outcome), hidden)
