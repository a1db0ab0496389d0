"""The tables that the cases are made of: what is addressed, of which Service, and who sends."""

from __future__ import annotations

from enum import StrEnum

from testbed.model.offers import (
    BEHIND,
    CALLER,
    CLIENT,
    CLOSED,
    DEAF,
    ENDING,
    FAR,
    FAR_DEAF,
    FAR_INSIDE,
    FAR_LOCAL,
    FIRST,
    GUARDED,
    HALF_ENDING,
    HINTED,
    HOMELY,
    IPV4_ONLY,
    IPV6_FIRST,
    IPV6_ONLY,
    KIN,
    NEAR,
    NEAR_INSIDE,
    NEAR_LOCAL,
    NODE_PORTS,
    NONE,
    PUBLISHED,
    SECOND,
    SERVICE_PORT,
    UNREADY,
)


class To(StrEnum):
    """What is addressed."""

    POD = "pod"
    CLUSTER_IP = "cluster-ip"
    NODE_PORT = "node-port"
    EXTERNAL_IP = "external-ip"
    LOAD_BALANCER = "load-balancer"


SOURCES: tuple[tuple[str, str, str], ...] = (
    (NEAR, "same-node-pod", CALLER),
    (FAR, "other-node-pod", CALLER),
    (CALLER, "itself", CALLER),
    (NEAR, "node", FIRST),
    (FAR, "node", SECOND),
    (NEAR, "other-node", SECOND),
    (FAR, "other-node", FIRST),
)
"""Service, source, actor: each backend as seen from everywhere in the cluster."""

OUTSIDE: tuple[tuple[str, str, str], ...] = ((NEAR, "client", CLIENT), (FAR, "client", CLIENT))

REFUSED: tuple[tuple[str, str, str], ...] = (
    (NONE, "pod", CALLER),
    (NONE, "node", FIRST),
    (NONE, "client", CLIENT),
)

BYSTANDERS = (SERVICE_PORT, NODE_PORTS[NEAR])
"""Ports that Services use too. The Pods listen on them; traffic to a Pod must not meet a Service's rules."""

ABROAD: tuple[tuple[str, str, str, str], ...] = (
    (NEAR, "same-node-pod", CALLER, ""),
    (FAR, "other-node-pod", CALLER, ""),
    (NEAR, "itself", NEAR, ""),
    (NEAR, "node", FIRST, ""),
    (FAR, "other-node", FIRST, ""),
    (NEAR, "client", CLIENT, FIRST),
    (FAR, "client", CLIENT, FIRST),
    (NONE, "pod", CALLER, ""),
    (NONE, "node", FIRST, ""),
    (NONE, "client", CLIENT, FIRST),
)
"""Service, source, actor, via: to addresses outside of every range of the cluster."""

LOCAL_POLICY: tuple[tuple[To, str, str, str, str], ...] = (
    (To.NODE_PORT, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "client", CLIENT, SECOND),
    (To.NODE_PORT, FAR_LOCAL, "client", CLIENT, FIRST),
    (To.NODE_PORT, FAR_LOCAL, "client", CLIENT, SECOND),
    (To.NODE_PORT, NEAR_LOCAL, "node", FIRST, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "other-node", SECOND, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "other-node", SECOND, SECOND),
    (To.NODE_PORT, FAR_LOCAL, "other-node", FIRST, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "same-node-pod", CALLER, FIRST),
    (To.NODE_PORT, FAR_LOCAL, "other-node-pod", CALLER, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "itself", NEAR, FIRST),
    (To.EXTERNAL_IP, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.EXTERNAL_IP, NEAR_LOCAL, "client", CLIENT, SECOND),
    (To.EXTERNAL_IP, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, FAR_LOCAL, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, FAR_LOCAL, "other-node", FIRST, ""),
    (To.CLUSTER_IP, FAR_LOCAL, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "other-node-pod", FAR, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "itself", NEAR, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "node", FIRST, ""),
    (To.CLUSTER_IP, NEAR_INSIDE, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, FAR_INSIDE, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR_INSIDE, "other-node", FIRST, ""),
    (To.CLUSTER_IP, FAR_INSIDE, "client", CLIENT, FIRST),
)
"""What is addressed, Service, source, actor, via: the nodes with a backend, and those without."""

RANGES: tuple[tuple[To, str, str, str, str], ...] = (
    (To.LOAD_BALANCER, GUARDED, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, GUARDED, "other-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, CLOSED, "client", CLIENT, FIRST),
    (To.NODE_PORT, CLOSED, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, CLOSED, "same-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, KIN, "other-node", FIRST, ""),
    (To.LOAD_BALANCER, KIN, "node", SECOND, ""),
    (To.LOAD_BALANCER, KIN, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, KIN, "other-node-pod", CALLER, ""),
)
"""`loadBalancerSourceRanges`: who is in, who is not, and where they do not matter. Columns as above."""

CONDITIONS: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, UNREADY, "pod", CALLER, ""),
    (To.NODE_PORT, UNREADY, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, PUBLISHED, "same-node-pod", CALLER, ""),
    (To.NODE_PORT, PUBLISHED, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, ENDING, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, ENDING, "other-node-pod", FAR, ""),
    (To.NODE_PORT, ENDING, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, HALF_ENDING, "pod", CALLER, ""),
    (To.NODE_PORT, HALF_ENDING, "client", CLIENT, FIRST),
    (To.NODE_PORT, HALF_ENDING, "client", CLIENT, SECOND),
)
"""Endpoints not ready, published nevertheless, or terminating: of HALF_ENDING, that on the first node is."""

DEAF_ENDS: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, DEAF, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR_DEAF, "other-node-pod", CALLER, ""),
    (To.NODE_PORT, DEAF, "client", CLIENT, FIRST),
    (To.NODE_PORT, FAR_DEAF, "client", CLIENT, FIRST),
)
"""The backend itself refuses. What it says is translated back: the sender hears of what it addressed."""

PROXIED: tuple[tuple[To, str, str, str, str], ...] = (
    (To.LOAD_BALANCER, BEHIND, "same-node-pod", CALLER, ""),
    (To.LOAD_BALANCER, BEHIND, "node", FIRST, ""),
    (To.LOAD_BALANCER, BEHIND, "other-node", SECOND, ""),
    (To.NODE_PORT, BEHIND, "client", CLIENT, FIRST),
    (To.CLUSTER_IP, BEHIND, "same-node-pod", CALLER, ""),
)
"""ipMode Proxy: no short cut to the load balancer's address."""

FAMILIES: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, IPV4_ONLY, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, IPV6_ONLY, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, IPV6_FIRST, "other-node-pod", CALLER, ""),
    (To.NODE_PORT, IPV4_ONLY, "client", CLIENT, FIRST),
    (To.NODE_PORT, IPV4_ONLY, "other-node", SECOND, FIRST),
    (To.NODE_PORT, IPV6_ONLY, "client", CLIENT, FIRST),
    (To.NODE_PORT, IPV6_ONLY, "same-node-pod", CALLER, SECOND),
    (To.NODE_PORT, IPV6_FIRST, "client", CLIENT, FIRST),
)
"""Services of one IP family, and of both in the cluster's other order. In the family that a Service has not,
its node port is none."""

MESSAGES: tuple[tuple[To, str, str, str, str], ...] = (
    (To.POD, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, CALLER, "itself", CALLER, ""),
    (To.CLUSTER_IP, NEAR, "node", FIRST, ""),
    (To.CLUSTER_IP, NONE, "pod", CALLER, ""),
    (To.NODE_PORT, FAR, "client", CLIENT, FIRST),
    (To.NODE_PORT, NEAR_LOCAL, "client", CLIENT, FIRST),
    (To.NODE_PORT, NONE, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, NEAR, "client", CLIENT, FIRST),
    (To.LOAD_BALANCER, NEAR, "itself", NEAR, ""),
)
"""SCTP: a case of each kind that its rules tell apart from those of TCP."""

LARGE: tuple[tuple[To, str, str, str, str], ...] = (
    (To.POD, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, FAR, "other-node-pod", CALLER, ""),
    (To.CLUSTER_IP, NEAR, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, CALLER, "itself", CALLER, ""),
    (To.NODE_PORT, FAR, "client", CLIENT, FIRST),
    (To.NODE_PORT, NEAR, "client", CLIENT, SECOND),
    (To.EXTERNAL_IP, FAR, "client", CLIENT, FIRST),
)
"""Datagrams that go in fragments both ways; over TCP, segments too large for the way to FAR (`PATH_MTU`)."""

SIZES = {"UDP": 4000, "TCP": 2000}

NEAREST: tuple[tuple[To, str, str, str, str], ...] = (
    (To.CLUSTER_IP, HINTED, "same-node-pod", CALLER, ""),
    (To.CLUSTER_IP, HINTED, "itself", FAR, ""),
    (To.NODE_PORT, HINTED, "client", CLIENT, FIRST),
    (To.NODE_PORT, HINTED, "client", CLIENT, SECOND),
    (To.CLUSTER_IP, HOMELY, "pod", FAR, ""),
    (To.NODE_PORT, HOMELY, "client", CLIENT, FIRST),
    (To.NODE_PORT, HOMELY, "client", CLIENT, SECOND),
)
"""Topology hints and `trafficDistribution`: the endpoints of the zone or node, `FEW` times."""

SPREAD = 400
"""Connections in a test of distribution: enough to tell (1/2, 1/4, 1/4) from thirds at `ERROR_RATE`."""

FEW = 40
"""Connections that show that an endpoint is never chosen, of three with equal chances."""

ERROR_RATE = 1e-6
"""How often the test of distribution may fail a proxy that chooses rightly."""
