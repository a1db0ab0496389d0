"""Addresses of a node's Pods, kept in files as the CNI reference plugin host-local keeps them.

A file named after the address holds the container and the interface, one a line; `last_reserved_ip.N` is
where the search in the Nth range goes on, lest an address is given out again at once. A lock file guards the
directory.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from testbed.errors import TestbedError
from testbed.model.families import Address, Network

LAST, LOCK = "last_reserved_ip.", "lock"
LONGEST = 4096
"""Bytes of a file: a container's id and an interface's name are much shorter."""
GATEWAY = 1
"""The gateway is the first address of the range."""


class Addresses:
    """The reservations in `directory`: an address of each of the ranges `subnets` for each interface."""

    def __init__(self, directory: Path, subnets: Sequence[Network]) -> None:
        self.directory = directory
        self.subnets = subnets
        directory.mkdir(parents=True, exist_ok=True)

    def reserve(self, container: str, interface: str) -> list[Address]:
        """Free addresses, one of each range, or those that the container's interface has already.

        Raises TestbedError when a range is used up; then none is reserved.
        """
        owner = f"{container}\n{interface}"
        with self._locked():
            held = self._held(owner)
            found = [
                next((one for one in held if one in subnet), None) or self._free(number)
                for number, subnet in enumerate(self.subnets)
            ]
            for number, address in enumerate(found):
                if address not in held:
                    (self.directory / str(address)).write_text(owner)
                    (self.directory / f"{LAST}{number}").write_text(str(address))
        return found

    def _free(self, number: int) -> Address:
        for address in self._candidates(number):
            if not (self.directory / str(address)).exists():
                return address
        subnet = self.subnets[number]
        raise TestbedError(f"no address is left in {subnet}; delete Pods, or use a larger Pod range")

    def release(self, container: str, interface: str) -> list[Address]:
        """Give back what the container's interface has, and say what that was; nothing is fine too."""
        with self._locked():
            held = self._held(f"{container}\n{interface}")
            for address in held:
                (self.directory / str(address)).unlink()
        return held

    def holder(self, address: Address) -> str:
        """The container that has the address, "" if nobody has."""
        path = self.directory / str(address)
        return path.read_text().partition("\n")[0] if path.exists() else ""

    def _held(self, owner: str) -> list[Address]:
        """What the owner has. By plain system calls: a hundred files are read for each Pod that comes."""
        found = []
        for name in os.listdir(self.directory):
            if name != LOCK and not name.startswith(LAST):
                file = os.open(f"{self.directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                if os.read(file, LONGEST).replace(b"\r", b"") == owner.encode():
                    found.append(ip_address(name))
                os.close(file)
        return found

    def _candidates(self, number: int) -> Iterator[Address]:
        """Every Pod address of a range once, starting after the one given out last."""
        subnet = self.subnets[number]
        first, count = int(subnet[GATEWAY]) + 1, subnet.num_addresses - GATEWAY - 2
        last = self.directory / f"{LAST}{number}"
        start = int(ip_address(last.read_text())) + 1 - first if last.exists() else 0
        for step in range(count):
            yield subnet[GATEWAY + 1 + (start + step) % count]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
