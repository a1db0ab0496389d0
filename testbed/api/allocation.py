"""Giving out ClusterIPs and node ports.

A pool holds who has what; it is derived from the stored Services at start and changed as they change. As
upstream, what is not asked for by name comes at random from the upper band of a range, so that the lower
band stays free for addresses and ports that users choose (KEP-3070, KEP-3668).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from testbed.model.topology import PortRange

Key = tuple[str, str]
TRIES = 16
"""Random picks before the range is searched."""


class Taken(Exception):
    """Somebody else has it."""


class OutOfRange(Exception):
    """The pool does not have it."""


class Full(Exception):
    """Nothing is left."""


class Range(NamedTuple):
    """Numbers `first`..`last`, the lowest `reserved` of them given out last."""

    first: int
    last: int
    reserved: int


class Pool:
    """The numbers of some ranges, and who has them."""

    def __init__(self, *ranges: Range) -> None:
        self.ranges: Sequence[Range] = ranges
        self._owners: dict[int, Key] = {}

    def claim(self, number: int, owner: Key) -> None:
        """Take this number, or keep it. Raises Taken, OutOfRange."""
        if self._owners.get(number) != owner and not any(r.first <= number <= r.last for r in self.ranges):
            raise OutOfRange
        if self._owners.setdefault(number, owner) != owner:
            raise Taken

    def adopt(self, number: int, owner: Key) -> None:
        """Whatever is given out already stays so, in range or not."""
        self._owners.setdefault(number, owner)

    def take(self, owner: Key) -> int:
        """Any free number. Raises Full."""
        for each in self.ranges:
            upper = min(each.first + each.reserved, each.last + 1)
            for low, high in ((upper, each.last), (each.first, upper - 1)):
                number = self._free(low, high)
                if number is not None:
                    self._owners[number] = owner
                    return number
        raise Full

    def holds(self, number: int, owner: Key) -> bool:
        return self._owners.get(number) == owner

    def release(self, number: int, owner: Key) -> None:
        """Give back, if it is `owner` who has it."""
        if self._owners.get(number) == owner:
            del self._owners[number]

    def clear(self) -> None:
        self._owners.clear()

    def _free(self, low: int, high: int) -> int | None:
        if low > high:
            return None
        for _ in range(TRIES):
            number = random.randint(low, high)
            if number not in self._owners:
                return number
        return next((number for number in range(low, high + 1) if number not in self._owners), None)


def address_range(network: IPv4Network | IPv6Network) -> Range:
    """The usable addresses of a Service range, as numbers: not its first, nor the last of an IPv4 one."""
    size = min(network.num_addresses, 1 << 20)
    last = int(network.network_address) + size - (2 if network.version == 4 else 1)
    return Range(int(network.network_address) + 1, last, min(max(16, size // 16), 256))


def port_range(ports: PortRange) -> Range:
    return Range(ports.first, ports.last, min(max(16, (ports.last - ports.first + 1) // 32), 128))
