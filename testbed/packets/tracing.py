"""The way of one real packet through the rules of every node: what the kernel itself says of it.

nft rules, those of iptables-nft among them, are followed by nftrace (nft(8), "monitor trace"); rules of
iptables-legacy by their counters, read before and after. What became of the addresses is in the connection
tracking, and in IPVS's own table.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from testbed.kernel.namespaces import inside
from testbed.lab.machine import Machine
from testbed.packets.patience import patience, until

TABLE = "testbed-trace"
REHEARSAL = 10999
"""The port of a datagram to oneself that shows that the monitor is at work."""
READY_SECONDS, QUIET_SECONDS, LONGEST_SECONDS = 5.0, 0.3, 3.0
_EVENT = re.compile(r"trace id (\w+) (\w+) (\S+) (\S+) (rule|verdict|policy) ?(.*)")
_COUNTED = re.compile(r"\[(\d+):\d+\] (-A (\S+) .*)")
NOISE = re.compile(r"counter packets \d+ bytes \d+ |meta l4proto \w+ ")


@dataclass
class Way:
    """What one node did with the packet. `rules`: (table chain, rule) in order of being met."""

    node: str
    rules: list[tuple[str, str]] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield self.node
        width = max((len(place) for place, _ in self.rules), default=0)
        yield from (f"  {place.ljust(width)}  {rule}" for place, rule in self.rules)
        yield from (f"  {connection}" for connection in self.connections)
        if not self.rules and not self.connections:
            yield "  it did not come here"


@contextmanager
def watched(machines: Sequence[Machine], protocol: str, port: int) -> Iterator[list[Way]]:
    """Follow what is sent from source port `port` in the context; the ways are complete when it is left."""
    ways = [Way(machine.name) for machine in machines]
    with ExitStack() as stack:
        for machine, way in zip(machines, ways, strict=True):
            stack.enter_context(_counted(machine, way))
            stack.enter_context(_traced(machine, way, protocol, port))
        yield ways
        for machine, way in zip(machines, ways, strict=True):
            way.connections = list(connections(machine, protocol, port))


@contextmanager
def _traced(machine: Machine, way: Way, protocol: str, port: int) -> Iterator[None]:
    """By nftrace: a table of our own marks the packet before any other sees it, and is gone afterwards."""
    hooks = "".join(
        f"chain {hook} {{ type filter hook {hook} priority -350;\n"
        f"meta l4proto {protocol.lower()} th sport {port} meta nftrace set 1;\n"
        f"udp sport {REHEARSAL} udp dport {REHEARSAL} meta nftrace set 1;\n}}\n"
        for hook in ("prerouting", "output")
    )
    machine.run(["nft", "-f", "-"], input=f"table inet {TABLE} {{\n{hooks}}}\n")
    try:
        with machine.popen(
            ["nft", "monitor", "trace"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as monitor:
            try:
                _rehearse(machine, monitor)
                yield
                way.rules += events(_printed(monitor, QUIET_SECONDS))
            finally:
                monitor.terminate()
    finally:
        machine.run(["nft", "delete", "table", "inet", TABLE], check=False)


def _rehearse(machine: Machine, monitor: subprocess.Popen[bytes]) -> None:
    """Until the monitor prints what it is shown: only then it misses nothing."""

    def heard() -> bool:
        with inside(machine.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            channel.bind(("127.0.0.1", REHEARSAL))
            channel.sendto(b"", ("127.0.0.1", REHEARSAL))
        return bool(_printed(monitor, 0.1))

    until(heard, READY_SECONDS)
    _printed(monitor, QUIET_SECONDS)


def _printed(monitor: subprocess.Popen[bytes], quiet: float) -> str:
    """What the monitor prints, until it has been silent for `quiet` seconds of a laptop.

    Or for LONGEST_SECONDS, where a connection that stays has the same source port.
    """
    assert monitor.stdout
    found, deadline = b"", time.monotonic() + patience(LONGEST_SECONDS)
    while time.monotonic() < deadline and select.select([monitor.stdout], [], [], patience(quiet))[0]:
        piece = os.read(monitor.stdout.fileno(), 65536)
        if not piece:
            break
        found += piece
    return found.decode(errors="replace")


def events(text: str) -> list[tuple[str, str]]:
    """The rules that the first packet met, from what `nft monitor trace` prints."""
    found, first = [], ""
    for line in text.splitlines():
        if not (match := _EVENT.match(line)):
            continue
        packet, family, table, chain, kind, rest = match.groups()
        first = first or packet
        if packet != first or table == TABLE or kind != "rule":
            continue
        rule, _, verdict = NOISE.sub("", rest).strip().rpartition(" (verdict ")
        known = verdict.rstrip(")").split()[-1] in rule.split() or verdict.startswith(("accept", "continue"))
        found.append((f"{family} {table} {chain}", rule if known else f"{rule} → {verdict.rstrip(')')}"))
    return found


@contextmanager
def _counted(machine: Machine, way: Way) -> Iterator[None]:
    """By counters, where the node's iptables is the legacy one."""
    if "legacy" not in machine.run(["iptables", "--version"], check=False).stdout:
        yield
        return
    before = counters(_saved(machine))
    yield
    way.rules += risen(before, counters(_saved(machine)))


def _saved(machine: Machine) -> str:
    four, six = (machine.run([program, "-c"]).stdout for program in ("iptables-save", "ip6tables-save"))
    return four + six.replace("\n*", "\n*ip6 ")


Counters = Mapping[tuple[str, str, str], int]
"""Packets by table, chain and rule, in the order of the rules."""


def counters(text: str) -> Counters:
    """From the output of `iptables-save -c`."""
    found: dict[tuple[str, str, str], int] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif match := _COUNTED.match(line):
            found[table, match[3], match[2].partition(f"-A {match[3]} ")[2]] = int(match[1])
    return found


def risen(before: Counters, after: Counters) -> list[tuple[str, str]]:
    """The rules that counted something, along the jumps from the built-in chains."""
    hit = {key for key, count in after.items() if count > before.get(key, 0)}
    found: list[tuple[str, str]] = []

    def walk(table: str, chain: str) -> None:
        for key in after:
            if key in hit and key[:2] == (table, chain):
                hit.discard(key)
                found.append((f"{table} {chain}", key[2]))
                target = re.search(r"-[jg] (\S+)", key[2])
                if target:
                    walk(table, target[1])

    for chain in ("PREROUTING", "OUTPUT", "INPUT", "FORWARD", "POSTROUTING"):
        for table in ("raw", "mangle", "nat", "filter"):
            walk(table, chain)
            walk(f"ip6 {table}", chain)
    return found


_TUPLE = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


def connections(machine: Machine, protocol: str, port: int) -> Iterator[str]:
    """What the node's connection tracking and IPVS hold of the connection, in words."""
    words = ["conntrack", "-L", "-p", protocol.lower(), "--orig-port-src", str(port)]
    for family in ("ipv4", "ipv6"):
        for line in machine.run([*words, "-f", family], check=False).stdout.splitlines():
            yield from translated(line)
    yield from balanced(machine.run(["cat", "/proc/net/ip_vs_conn"], check=False).stdout, protocol, port)


def balanced(text: str, protocol: str, port: int) -> Iterator[str]:
    """Where IPVS has sent what came from a source port, from its /proc/net/ip_vs_conn."""
    for fields in map(str.split, text.splitlines()[1:]):
        if fields[0] == protocol.upper() and int(fields[2], 16) == port:
            server = _end(_readable(fields[5]), str(int(fields[6], 16)))
            yield f"IPVS: {_end(_readable(fields[3]), str(int(fields[4], 16)))} sent to {server}, {fields[7]}"


def translated(line: str) -> Iterator[str]:
    """A line of `conntrack -L`: who spoke to whom, and who answers whom."""
    if len(found := _TUPLE.findall(line)) == 2:
        (source, to, sport, dport), (answers, hears, aport, hport) = found
        text = f"connection {_end(source, sport)} → {_end(to, dport)}"
        if (to, dport) != (answers, aport):
            text += f", destination translated to {_end(answers, aport)}"
        if (source, sport) != (hears, hport):
            text += f", source to {_end(hears, hport)}"
        yield text


def _end(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _readable(text: str) -> str:
    """An address as /proc/net/ip_vs_conn writes it: 0AF40102, or all of an IPv6 one."""
    return str(ip_address(text if ":" in text else bytes.fromhex(text)))
