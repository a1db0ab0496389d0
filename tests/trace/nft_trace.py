"""A packet's way through a rendered nftables table, without a kernel: enough of nft to judge a proxy.

Understands just the statements that the rules of this project use; any other is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from netfilter import MARK, Fate, Packet

from testbed.kernel.nft import Table

Way = tuple[Packet, str]
"""The packet, and the verdict so far: "" for none."""

_STATEMENTS = (
    ("state", r"ct state (\w+)"),
    ("map", r"(ip6? daddr \. )?meta l4proto \. th dport vmap @(\S+)"),
    ("address", r"ip6? (saddr|daddr) (!= )?({ [^}]* }|@\S+|[\da-f.:/]+)"),
    ("port", r"(tcp|udp|sctp) dport (\d+)"),
    ("protocol", r"meta l4proto (\w+)"),
    ("local", r"fib saddr type local"),
    ("unmarked", r"meta mark & (0x\w+) == 0x00000000"),
    ("mark", r"meta mark set meta mark ([|^]) (0x\w+)"),
    ("remember", r"update @\S+ { ip6? saddr }"),
    ("random", r"numgen random mod (\d+) vmap { (.*) }"),
    ("dnat", r"dnat to \[?([\da-f.:]+?)\]?:(\d+)$"),
    ("verdict", r"(jump|goto) (\S+)|return|drop|reject|masquerade fully-random"),
)


class Wrong(AssertionError):
    """Whatever was expected, this must not be."""


@dataclass
class NftTrace:
    """All ways that a packet can take; a random choice splits the way."""

    table: Table

    def fate(self, packet: Packet) -> Fate:
        """From outside of the node if the source is not local, else from the node itself."""
        inside = packet.source in packet.local
        first = "output" if inside else "prerouting"
        found = set()
        for passed, refused in self._hooks(first, (-1000, -1), packet):
            at = passed.destination in passed.local
            then = "output" if inside else "input" if at else "forward"
            for left, last in [(passed, refused)] if refused else self._hooks(then, (0, 1000), passed):
                found.add(Fate(last.upper()) if last else self._left(left))
        verdicts = {(one.verdict, one.masqueraded) for one in found}
        if len(verdicts) > 1:
            raise Wrong(f"{packet} may meet {found}")
        where = frozenset[str]().union(*(one.destinations for one in found))
        return replace(found.pop(), destinations=where)

    def _left(self, packet: Packet) -> Fate:
        ((left, last),) = self._hooks("postrouting", (-1000, 1000), packet)
        if left.mark & MARK:
            raise Wrong(f"{packet} leaves with the mark")
        return Fate("ACCEPT", frozenset({left.to}), last == "masquerade")

    def _hooks(self, hook: str, priorities: tuple[int, int], packet: Packet) -> Iterator[Way]:
        """Every way through the base chains of `hook` with such priorities, in their order."""
        chains = []
        for chain, definition in self.table.hooks.items():
            words = definition.rstrip(";").replace(";", "").split()
            if words[3] == hook and priorities[0] <= int(words[5]) <= priorities[1]:
                chains.append((int(words[5]), chain))
        ways: list[Way] = [(packet, "")]
        for _, chain in sorted(chains):
            ways = [
                after
                for way, last in ways
                for after in ([(way, last)] if last in ("drop", "reject") else self._walk(chain, way))
            ]
        yield from ((way, last if last in ("drop", "reject", "masquerade") else "") for way, last in ways)

    def _walk(self, chain: str, packet: Packet) -> Iterator[Way]:
        """Every way through `chain`: verdict "" if it comes back, "accept" once translated."""
        ways = [packet]
        for rule in self.table.chains[chain]:
            onward: list[Packet] = []
            for way in ways:
                for after, verdict in self._rule(rule, way):
                    if verdict == "":
                        onward.append(after)
                    else:
                        yield after, "" if verdict == "return" else verdict
            ways = onward
        yield from ((way, "") for way in ways)

    def _rule(self, rule: str, packet: Packet) -> Iterator[Way]:
        """What the rule makes of the packet: verdict "" if the next rule is to see it."""
        rest = rule
        while rest:
            kind, found = _statement(rest, rule)
            rest = rest[found.end() :].lstrip()
            if kind == "mark":
                bits = int(found[2], 16)
                packet = replace(packet, mark=packet.mark | bits if found[1] == "|" else packet.mark ^ bits)
            elif kind == "dnat":
                yield replace(packet, destination=found[1], port=int(found[2])), "accept"
                return
            elif kind == "random":
                choices = [one.split(" : ") for one in found[2].split(", ")]
                assert [int(number) for number, _ in choices] == list(range(int(found[1])))
                for _, verdict in choices:
                    yield from self._verdict(verdict, packet)
                return
            elif kind == "map":
                key = f"{packet.protocol} . {packet.port}"
                key = f"{packet.destination} . {key}" if found[1] else key
                verdict = self.table.sets[found[2]].elements.get(key)
                yield from self._verdict(verdict, packet) if verdict else [(packet, "")]
                return
            elif kind == "verdict":
                yield from self._verdict(found[0], packet)
                return
            elif not self._matches(kind, found, packet):
                break
        yield packet, ""

    def _verdict(self, verdict: str, packet: Packet) -> Iterator[Way]:
        word, _, chain = verdict.partition(" ")
        if word == "jump":
            yield from self._walk(chain, packet)
        elif word == "goto":
            yield from ((after, last or "return") for after, last in self._walk(chain, packet))
        else:
            yield packet, word

    def _matches(self, kind: str, found: re.Match[str], packet: Packet) -> bool:
        if kind == "state":
            return found[1] == "new"
        if kind == "address":
            address = packet.source if found[1] == "saddr" else packet.destination
            return self._within(address, found[3]) is not bool(found[2])
        if kind == "port":
            return (packet.protocol, packet.port) == (found[1], int(found[2]))
        if kind == "protocol":
            return packet.protocol == found[1]
        if kind == "local":
            return packet.source in packet.local
        if kind == "unmarked":
            return not packet.mark & int(found[1], 16)
        return kind == "remember"

    def _within(self, address: str, where: str) -> bool:
        if where.startswith("@"):
            return address in self.table.sets[where[1:]].elements
        return any(ip_address(address) in ip_network(one) for one in where.strip("{ }").split(", "))


def _statement(text: str, rule: str) -> tuple[str, re.Match[str]]:
    for kind, pattern in _STATEMENTS:
        if found := re.match(pattern, text):
            return kind, found
    raise AssertionError(f"unknown statement in {rule!r}: {text!r}")
