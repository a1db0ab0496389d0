"""What is measured, a row each: the measures, their units, and how exactly a sample of each is taken.

The definitions are upstream's: first-packet latency is the time from the client's SYN to the first packet of
the backend (kubernetes.io/blog/2025/02/28/nftables-kube-proxy); network programming latency the time from a
change to its rules (kubernetes/community, sig-scalability/slos/network_programming_latency.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from testbed.bench.units import BITS, CONNECTIONS, MEMORY, MILLIS, RATE, SECONDS, SHARE, TIME, Unit
from testbed.errors import UsageError

POSITIONS = ("first", "middle", "last")
"""Where in the list of Services the one stands that a sample went to."""


@dataclass(frozen=True)
class Measure:
    """One kind of sample: its title, its unit and, for the report, how exactly it was taken.

    `no_direct`: it is a figure of a proxy; traffic without one has none.
    """

    name: str
    title: str
    definition: str
    caution: str = ""
    unit: Unit = TIME
    no_direct: bool = False


FIRST_PACKET = Measure(
    "first-packet",
    "First packet",
    "New connection, a fresh 5-tuple each: connect(2) sends the SYN, the sample ends with the first packet "
    "of the backend.",
    "In every mode but userspace, and in direct, that packet is the SYN-ACK: the sample ends when connect(2) "
    "returns. "
    "In userspace mode the SYN-ACK comes from the proxy itself and says nothing of the backend; there the "
    "sample ends with the first byte of the backend's answer, so it holds one request more. "
    "“First byte” is the like-for-like comparison.",
)
FIRST_BYTE = Measure(
    "first-byte",
    "First byte on a new connection",
    "New connection, a fresh 5-tuple each: from connect(2) over a request sent at once (HTTP; a byte under "
    "the instruction clock) to the first byte of the answer. The same for every mode.",
)
KEEP_ALIVE = Measure(
    "keep-alive",
    "Request on an open connection",
    "One HTTP request and its whole answer on a connection that is already open (HTTP keep-alive).",
)
NEW_CONNECTIONS = Measure(
    "new-connections",
    "New connections at saturation",
    "wrk, 16 at a time, each request on a connection of its own, as many as the machine can do; a sample is "
    "the rate of one burst. Targets are the first, middle and last Service, each from client addresses of "
    "its own.",
    "Client, node and backend share the machine's processors: a rate says how modes compare, not what a "
    "node can do.",
    RATE,
)
REQUESTS = Measure(
    "requests",
    "Requests on open connections at saturation",
    "wrk, 16 connections that stay open, as many requests as the machine can do; a sample is the rate of one "
    "burst.",
    unit=RATE,
)
LOADED = Measure(
    "loaded-latency",
    "Request latency under that load, p50",
    "The median latency that wrk saw in the same burst, on 16 open connections at saturation.",
)
LOADED_TAIL = Measure(
    "loaded-latency-p99",
    "Request latency under that load, p99",
    "The 99th percentile of latency that wrk saw in the same burst.",
)
BULK = Measure(
    "bulk",
    "Bulk throughput",
    "iperf3, one TCP stream from the client to the backend; a sample is what arrived in one burst.",
    unit=BITS,
)
UDP_RATE = Measure(
    "udp-requests",
    "UDP requests",
    "sockperf, one datagram and its echo at a time on one socket; a sample is the rate of one burst.",
    unit=RATE,
)
UDP_LOSS = Measure(
    "udp-loss",
    "UDP loss",
    "Datagrams of the same burst that got no echo, in percent.",
    unit=SHARE,
)
PROGRAMMING = Measure(
    "network-programming",
    "Network programming to the first packet",
    "A Service without endpoints gets its first one: from the API write to the first answer through the "
    "Service. Only this mode's agent runs meanwhile, the others are held.",
    unit=MILLIS,
    no_direct=True,
)
PROGRAMMING_UPSTREAM = Measure(
    "network-programming-upstream",
    "Network programming, upstream's metric",
    "kubeproxy_network_programming_duration_seconds of the same changes, from the agent's own /metrics: "
    "the EndpointSlice's last-change-trigger-time to the end of the sync. It knows of no packet: rules may "
    "work before the sync has ended.",
    unit=MILLIS,
    no_direct=True,
)
SYNC_CHANGE = Measure(
    "sync-change",
    "Sync of one change",
    "What the agent's own /metrics say that the sync of the same change took.",
    unit=MILLIS,
    no_direct=True,
)
SYNC_FULL = Measure(
    "sync-full",
    "Full sync at start",
    "The agent is started again with its rules in the kernel; what its /metrics say that the first sync "
    "took.",
    unit=MILLIS,
    no_direct=True,
)
GROWTH = Measure(
    "growth",
    "Growing to this many Services",
    "From the first API write of the step to the answer of its last Service, many writes in flight and all "
    "modes at once.",
    "The API writes are in it, and all modes compete for the processors. Direct is the writes alone, until "
    "the last was acknowledged.",
    SECONDS,
)
SYNC_PARTIAL = Measure(
    "sync-partial",
    "Syncs while growing",
    "The time that the agent spent in syncs during that step, from its /metrics.",
    unit=MILLIS,
    no_direct=True,
)
AGENT_CPU = Measure(
    "agent-cpu",
    "Processor time of the agent while growing",
    "CPU seconds of the agent and its children, user and system, from the step's begin until the cluster "
    "was quiet.",
    unit=SECONDS,
    no_direct=True,
)
AGENT_MEMORY = Measure(
    "agent-memory",
    "Memory of the agent",
    "Resident set (RSS) of the agent and its children when the step was over.",
    "Components are forked from one parent and share much of it: RSS counts what is shared for each.",
    MEMORY,
    no_direct=True,
)
HELD = Measure(
    "connections-held",
    "Connections held",
    "1,000 connections are opened one after the other and kept; the sample is how many of them answer a "
    "request when all are open.",
    unit=CONNECTIONS,
)
HELD_MEMORY = Measure(
    "held-memory",
    "Agent's memory for the connections held",
    "How much the agent's and its children's resident set grew while they were open.",
    unit=MEMORY,
    no_direct=True,
)
RULES_LOAD = Measure(
    "rules-load",
    "Loading the whole table",
    "Into a namespace without rules: iptables-restore, nft, or netlink for IPVS and its sets; the program "
    "that loads and the kernel together, by the kernel's account of ticks (getrusage). Waiting is not in it.",
    no_direct=True,
)
RULES_MEMORY = Measure(
    "rules-memory",
    "Kernel memory of the rules",
    "How much the kernel's own memory grew when the table was loaded (/proc/meminfo: SUnreclaim, "
    "VmallocUsed, Percpu) while nothing else ran.",
    unit=MEMORY,
    no_direct=True,
)

MEASURES = {
    measure.name: measure
    for measure in (
        FIRST_PACKET,
        FIRST_BYTE,
        KEEP_ALIVE,
        NEW_CONNECTIONS,
        REQUESTS,
        LOADED,
        LOADED_TAIL,
        BULK,
        UDP_RATE,
        UDP_LOSS,
        PROGRAMMING,
        PROGRAMMING_UPSTREAM,
        SYNC_CHANGE,
        SYNC_FULL,
        SYNC_PARTIAL,
        GROWTH,
        AGENT_CPU,
        AGENT_MEMORY,
        HELD,
        HELD_MEMORY,
        RULES_LOAD,
        RULES_MEMORY,
    )
}


def count_of(services: int) -> str:
    """`1 Service`, `1,000 Services`."""
    return f"{services:,} Service" + ("" if services == 1 else "s")


def parse_measures(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """`first-packet,bulk`, in the order of the table. Raises UsageError for one that is not `known`."""
    known = tuple(known)
    asked = {part.strip() for part in text.split(",") if part.strip()}
    for name in sorted(asked - set(known)):
        raise UsageError(f"unknown measure {name!r}; known here are {', '.join(known)}")
    if not asked:
        raise UsageError(f"--measures {text!r}: name one at least of {', '.join(known)}")
    return tuple(name for name in known if name in asked)
