"""A packet's way through rendered iptables rules, without a kernel: enough of netfilter to judge a proxy.

Understands just the matches and targets that the rules of this project use; any other word is an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Rules
from testbed.model.families import bracketed

MARK = 0x4000


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. `local`: addresses that are the node's."""

    source: str
    destination: str
    port: int
    protocol: str = "tcp"
    mark: int = 0
    local: frozenset[str] = frozenset()

    @property
    def to(self) -> str:
        return f"{bracketed(self.destination)}:{self.port}"


@dataclass(frozen=True)
class Fate:
    """What became of a packet: where it can have gone, and whether its source was hidden."""

    verdict: str = "ACCEPT"
    destinations: frozenset[str] = frozenset()
    masqueraded: bool = False


Chains = Mapping[str, Rules]


@dataclass
class Trace:
    """All ways that a packet can take; a random match splits the way in two."""

    wanted: Wanted
    chains: dict[str, Chains] = field(init=False)

    def __post_init__(self) -> None:
        self.chains = {
            table: {**self.wanted.jumps.get(table, {}), **chains}
            for table, chains in self.wanted.tables.items()
        }

    def fate(self, packet: Packet) -> Fate:
        """From outside of the node if the source is not local, else from the node itself."""
        inside = packet.source in packet.local
        ends = [
            self._end(inside, packet, after, verdict)
            for after, verdict in self._walk("nat", "OUTPUT" if inside else "PREROUTING", packet)
        ]
        verdicts = {end[0] for end in ends}
        assert len(verdicts) == 1, f"{packet} may meet {verdicts}"
        if verdicts != {"ACCEPT"}:
            return Fate(verdicts.pop())
        hidden = {end[2] for end in ends}
        where = frozenset(end[1] for end in ends)
        return Fate("ACCEPT", where, hidden.pop() if len(hidden) == 1 else self._mixed(ends))

    @staticmethod
    def _mixed(ends: list[tuple[str, str, bool]]) -> bool:
        raise AssertionError(f"masqueraded on some ways only: {sorted(set(ends))}")

    def _end(self, inside: bool, before: Packet, after: Packet, verdict: str) -> tuple[str, str, bool]:
        """Filter and postrouting, after the destination is known."""
        moved = (after.destination, after.port) != (before.destination, before.port)
        hook = "OUTPUT" if inside else "INPUT" if after.destination in after.local else "FORWARD"
        state = "DNAT" if moved else ""
        for passed, said in self._walk("filter", hook, after, state):
            if said not in ("ACCEPT", ""):
                return said, "", False
            for left, last in self._walk("nat", "POSTROUTING", passed):
                assert not left.mark & MARK, "the mark leaks"
                return "ACCEPT", left.to, last == "MASQUERADE"
        raise AssertionError(verdict)

    def _walk(self, table: str, chain: str, packet: Packet, state: str = "") -> Iterator[tuple[Packet, str]]:
        """Every way through `chain`: the packet at its end, and the verdict, "" for none."""
        ways = [packet]
        for rule in self.chains[table].get(chain, ()):
            onward: list[Packet] = []
            for way in ways:
                for matched in matches(rule, way, state):
                    if not matched:
                        onward.append(way)
                        continue
                    for after, verdict in self._target(table, rule, way, state):
                        if verdict == "":
                            onward.append(after)
                        elif verdict == "RETURN":
                            yield after, ""
                        else:
                            yield after, verdict
            ways = onward
        for way in ways:
            yield way, ""

    def _target(self, table: str, rule: str, packet: Packet, state: str) -> Iterator[tuple[Packet, str]]:
        words = shlex.split(rule.rpartition("-j ")[2]) if "-j " in rule else [""]
        target, options = words[0], dict(zip(words[1::2], words[2::2], strict=False))
        if target in self.chains[table]:
            yield from self._walk(table, target, packet, state)
        elif target == "MARK":
            value, _, mask = options["--set-xmark"].partition("/")
            yield replace(packet, mark=(packet.mark & ~int(mask, 16)) ^ int(value, 16)), ""
        elif target == "DNAT":
            ip, _, port = options["--to-destination"].rpartition(":")
            yield replace(packet, destination=ip.strip("[]"), port=int(port)), "ACCEPT"
        elif target == "REDIRECT":
            home = "127.0.0.1" if packet.source in packet.local else min(packet.local)
            yield replace(packet, destination=home, port=int(options["--to-ports"])), "ACCEPT"
        elif target in ("ACCEPT", "DROP", "REJECT", "RETURN", "MASQUERADE", ""):
            yield packet, target
        else:
            raise AssertionError(f"unknown target in {rule!r}")


def matches(rule: str, packet: Packet, state: str) -> list[bool]:
    """[True], [False], or both where it is left to chance."""
    words = iter(shlex.split(rule.rpartition("-j ")[0] if "-j " in rule else rule))
    inverted, chance = False, False
    for word in words:
        if word == "!":
            inverted = True
            continue
        if word in ("-m", "--comment", "--mode", "--name", "--mask", "--seconds"):
            next(words)
            continue
        if word in ("--rsource", "--reap", "--set"):
            continue
        if word == "--probability":
            chance = True
            next(words)
        elif word == "--rcheck":
            return [False]  # the first packet of a client nobody has seen
        elif _match(word, next(words), packet, state) is inverted:
            return [False]
        inverted = False
    return [True, False] if chance else [True]


def _match(word: str, value: str, packet: Packet, state: str) -> bool:
    if word == "-s":
        return ip_address(packet.source) in ip_network(value)
    if word == "-d":
        return ip_address(packet.destination) in ip_network(value)
    if word == "-p":
        return packet.protocol == value
    if word == "--dport":
        return packet.port == int(value)
    if word == "--dst-type":
        return packet.destination in packet.local
    if word == "--src-type":
        return packet.source in packet.local
    if word == "--mark":
        wanted, _, mask = value.partition("/")
        return packet.mark & int(mask, 16) == int(wanted, 16)
    if word == "--ctstate":
        return "NEW" in value.split(",") or state in value.split(",")
    raise AssertionError(f"unknown match {word}")
