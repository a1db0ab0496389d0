"""IP families: 4 and 6, as the addresses have it. A cluster has one or both; the first is its primary one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar

from testbed.errors import UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Either = TypeVar("Either", bound=IPv4Address | IPv6Address | IPv4Network | IPv6Network)

VERSIONS = (4, 6)
ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
UNSPECIFIED = {4: "0.0.0.0", 6: "::"}


def family(version: int) -> str:
    """`IPv4`, as the API spells it."""
    return f"IPv{version}"


def version_of(name: str) -> int:
    """4 for `IPv4`."""
    return int(name.removeprefix("IPv"))


def of_version(some: Iterable[Either], version: int) -> Either:
    """The first of one family. Raises LookupError when there is none."""
    for each in some:
        if each.version == version:
            return each
    raise LookupError(f"nothing of {family(version)} here")


def bracketed(host: str) -> str:
    """A host as a URL or an address with a port has it."""
    return f"[{host}]" if ":" in host else host


def mac_of(address: Address) -> bytes:
    """The hardware address of a virtual link whose address that is: whoever knows the one knows the other."""
    four = address.packed if address.version == 4 else hashlib.sha256(address.packed).digest()[:4]
    return b"\x0a\x58" + four


def network(text: str, what: str) -> Network:
    """A network in CIDR form. Raises UsageError naming `what`."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise UsageError(f"{what} {text!r} is not a network in CIDR form: {error}") from None


def networks(text: str, what: str) -> tuple[Network, ...]:
    """`10.96.0.0/12,fd00:10:96::/112`: one network, or one of each family, the primary first.

    Raises UsageError naming `what`.
    """
    found = tuple(network(part.strip(), what) for part in text.split(","))
    if len(found) > len({each.version for each in found}):
        raise UsageError(f"{what} {text!r} has two networks of one family; give one, or one of each family")
    return found


def listed(some: Sequence[object]) -> str:
    """As `networks` takes them."""
    return ",".join(map(str, some))


def overlap(some: Sequence[Network], others: Sequence[Network]) -> tuple[Network, Network] | None:
    """Two of one family that overlap, None if there are none."""
    for one in some:
        for other in others:
            if one.version == other.version and one.overlaps(other):
                return one, other
    return None
