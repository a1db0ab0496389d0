"""Many captured packets, found by port or token without dissecting each: scapy reads what is judged."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import TypeVar

from testbed.packets.capture import RST, Packet

T = TypeVar("T")

TCP, FRAGMENT = 6, 44
WITH_PORTS = frozenset((TCP, 17, 132))
"""TCP, UDP, SCTP: source and destination port are their first four bytes."""

ERRORS = {1: (3, 4, 5, 11, 12), 58: (1, 2, 3, 4)}
"""ICMP and ICMPv6: the types that quote the packet that they are about, after eight bytes."""

TOKEN = re.compile(rb"<[0-9a-f]+-\d{6}>")


def ports(data: bytes) -> tuple[int, ...]:
    """Source and destination port of a packet, or of the one that an ICMP error quotes; none without."""
    protocol, start = _payload(data)
    below = data[start:]
    if protocol in WITH_PORTS and len(below) >= 4:
        return int.from_bytes(below[:2]), int.from_bytes(below[2:4])
    if below and below[0] in ERRORS.get(protocol, ()) and len(below) > 8:
        return ports(below[8:])
    return ()


def _payload(data: bytes) -> tuple[int, int]:
    """The protocol above IP, and where it starts; of an IPv6 fragment that is not the first, FRAGMENT."""
    if data[0] >> 4 == 4:
        return data[9], 4 * (data[0] & 15)
    if data[6] == FRAGMENT and len(data) >= 48 and int.from_bytes(data[42:44]) < 8:
        return data[40], 48
    return data[6], 40


def gist(data: bytes) -> bytes:
    """What two packets of one exchange must share to tell the same: addresses, protocol, ports, and RST."""
    protocol, start = _payload(data)
    addresses = data[12:20] if data[0] >> 4 == 4 else data[8:40]
    if protocol not in WITH_PORTS:
        return data
    reset = data[start + 13] & RST if protocol == TCP and len(data) > start + 13 else 0
    return bytes((protocol, reset)) + addresses + data[start : start + 4]


class Sorted:
    """The packets captured in one namespace."""

    def __init__(self, packets: Iterable[bytes]) -> None:
        self._by_port: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._by_token: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        for data in packets:
            short = gist(data)
            for port in set(ports(data)):
                self._by_port[port].setdefault(short, data)
            for token in TOKEN.findall(data):
                self._by_token[token].setdefault(short, data)

    def with_port(self, port: int) -> Sequence[Packet]:
        """Those from or to `port`, and ICMP errors about such; of those alike, the first."""
        return [read(data) for data in self._by_port.get(port, {}).values()]

    def with_token(self, token: bytes) -> Sequence[Packet]:
        return [read(data) for data in self._by_token.get(token, {}).values()]


NOTHING = Sorted(())


def about(packets: Iterable[bytes], port: int, token: bytes) -> list[bytes]:
    """Those with the port or the token, as they were captured."""
    return [data for data in packets if token in data or port in ports(data)]


class Leaks:
    """Packets that left with the masquerade mark, by the machine that they left.

    `used`: the source ports of each exchange of the time. What belongs to none of them is held against all.
    """

    def __init__(self, left: Mapping[str, Iterable[bytes]], used: Iterable[Set[int]]) -> None:
        every = frozenset().union(*used)
        self._left = [(name, every & set(ports(data))) for name, packets in left.items() for data in packets]

    def of(self, own: Set[int]) -> list[str]:
        """What to say of the exchange that used the source ports `own`."""
        names = {name for name, claimed in self._left if not claimed or claimed & own}
        return [f"a packet left {name} with the masquerade mark" for name in sorted(names)]


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@lru_cache(maxsize=4096)
def read(data: bytes) -> Packet:
    """The packet; the same one is often seen in several namespaces, and twice on a bridge."""
    from testbed.packets.dissection import dissect

    return dissect(data)
