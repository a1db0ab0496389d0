"""Addresses of a node's Pods, kept in files as the CNI reference plugin host-local keeps them.

A file named after the address holds the container and the interface, one a line; `last_reserved_ip.0` is
where the search goes on, so that an address is not given out again at once. A lock file guards the directory.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from testbed.errors import TestbedError

LAST = "last_reserved_ip.0"
GATEWAY = 1
"""The gateway is the first address of the range."""


class Addresses:
    """The reservations in `directory` for the range `subnet`."""

    def __init__(self, directory: Path, subnet: IPv4Network) -> None:
        self.directory = directory
        self.subnet = subnet
        directory.mkdir(parents=True, exist_ok=True)

    def reserve(self, container: str, interface: str) -> IPv4Address:
        """A free address, or the one that the container's interface has already.

        Raises TestbedError when the range is used up.
        """
        owner = f"{container}\n{interface}"
        with self._locked():
            for address, held in self._reserved():
                if held == owner:
                    return address
            for address in self._candidates():
                path = self.directory / str(address)
                if not path.exists():
                    path.write_text(owner)
                    (self.directory / LAST).write_text(str(address))
                    return address
        raise TestbedError(f"no address is left in {self.subnet}; delete Pods, or use a larger Pod range")

    def release(self, container: str, interface: str) -> None:
        """Give back what the container's interface has; nothing is fine too."""
        owner = f"{container}\n{interface}"
        with self._locked():
            for address, held in self._reserved():
                if held == owner:
                    (self.directory / str(address)).unlink()

    def holder(self, address: IPv4Address) -> str:
        """The container that has the address, "" if nobody has."""
        path = self.directory / str(address)
        return path.read_text().partition("\n")[0] if path.exists() else ""

    def _reserved(self) -> list[tuple[IPv4Address, str]]:
        return [
            (IPv4Address(path.name), path.read_text().replace("\r", ""))
            for path in self.directory.iterdir()
            if path.name[0].isdigit()
        ]

    def _candidates(self) -> Iterator[IPv4Address]:
        """Every Pod address once, starting after the one given out last."""
        first, count = int(self.subnet[GATEWAY]) + 1, self.subnet.num_addresses - GATEWAY - 2
        last = self.directory / LAST
        start = int(IPv4Address(last.read_text())) + 1 - first if last.exists() else 0
        for step in range(count):
            yield IPv4Address(first + (start + step) % count)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
