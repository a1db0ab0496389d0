"""Giving out ClusterIPs and node ports.

A pool holds who has what; it is derived from the stored Services at start and changed as they change. As
upstream, what is not asked for by name comes at random from the upper band of a range, so that the lower
band stays free for addresses and ports that users choose (KEP-3070, KEP-3668).
"""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network

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


class Pool:
    """Numbers `first`..`last`, the lowest `reserved` of them given out last."""

    def __init__(self, first: int, last: int, reserved: int) -> None:
        self.first, self.last, self.reserved = first, last, reserved
        self._owners: dict[int, Key] = {}

    def claim(self, number: int, owner: Key) -> None:
        """Take this number, or keep it. Raises Taken, OutOfRange."""
        if not self.first <= number <= self.last:
            raise OutOfRange
        if self._owners.setdefault(number, owner) != owner:
            raise Taken

    def take(self, owner: Key) -> int:
        """Any free number. Raises Full."""
        upper = min(self.first + self.reserved, self.last + 1)
        for low, high in ((upper, self.last), (self.first, upper - 1)):
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


def address_pool(network: IPv4Network | IPv6Network) -> Pool:
    """The usable addresses of a Service range, as numbers: not its first, nor the last of an IPv4 one."""
    size = min(network.num_addresses, 1 << 20)
    last = int(network.network_address) + size - (2 if network.version == 4 else 1)
    return Pool(int(network.network_address) + 1, last, min(max(16, size // 16), 256))


def port_pool(ports: PortRange) -> Pool:
    return Pool(ports.first, ports.last, min(max(16, (ports.last - ports.first + 1) // 32), 128))
