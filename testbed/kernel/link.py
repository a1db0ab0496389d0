"""Links, addresses and routes over rtnetlink, as plain functions on an open `pyroute2.IPRoute`.

Each function makes it so and is content when it already is: called twice, it does no harm.
A link is named, or given by its index, which saves the look-up.
pyroute2 runs an event loop of its own, so none of this may be called where a loop is running.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from pyroute2 import NetlinkError

from testbed.errors import TestbedError

MTU = 1500
NODAD = 0x02
"""IFA_F_NODAD: an IPv6 address is not looked for among the neighbours first, which takes a second."""


Link = str | int


def index(ip: Any, name: Link) -> int:
    """The interface index of `name`. Raises TestbedError when there is no such link."""
    found = name if isinstance(name, int) else find(ip, name)
    if not found:
        raise TestbedError(f"there is no network interface {name!r}")
    return found


def find(ip: Any, name: str) -> int:
    """The interface index of `name`, 0 when there is no such link."""
    try:
        return next((int(link["index"]) for link in ip.link("get", ifname=name)), 0)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return 0
        raise


def veth(
    ip: Any,
    name: str,
    peer: str,
    *,
    netns: int | None = None,
    mtu: int = MTU,
    mac: str = "",
    peer_mac: str = "",
) -> None:
    """A pair of virtual Ethernet links; the `peer` end is born in `netns`, a file descriptor, if given."""
    other: dict[str, Any] = {"ifname": peer, "mtu": mtu}
    if netns is not None:
        other["net_ns_fd"] = netns
    if peer_mac:
        other["address"] = peer_mac
    with _tolerating(errno.EEXIST):
        ip.link("add", kind="veth", ifname=name, mtu=mtu, peer=other, **({"address": mac} if mac else {}))


def bridge(ip: Any, name: str, *, mtu: int = MTU, mac: str = "") -> None:
    """A bridge. With `mac` it keeps that address; without, it takes the lowest of its ports as they come."""
    with _tolerating(errno.EEXIST):
        ip.link("add", kind="bridge", ifname=name, mtu=mtu, **({"address": mac} if mac else {}))


def port(ip: Any, name: Link, master: Link, *, hairpin: bool = False) -> None:
    """Make `name` a port of the bridge `master`. With `hairpin` a frame may leave by the port it came in."""
    number = index(ip, name)
    ip.link("set", index=number, master=index(ip, master))
    if hairpin:
        ip.brport("set", index=number, mode=1)


def up(ip: Any, name: Link) -> None:
    ip.link("set", index=index(ip, name), state="up")


def move(ip: Any, name: str, netns: int) -> None:
    """Move the link into the network namespace behind the file descriptor `netns`."""
    ip.link("set", index=index(ip, name), net_ns_fd=netns)


def delete(ip: Any, name: str) -> None:
    """Remove the link, if it is there. A veth may go by itself meanwhile, with its peer."""
    found = find(ip, name)
    if found:
        with _tolerating(errno.ENODEV):
            ip.link("del", index=found)


def address(ip: Any, name: Link, cidr: str | IPv4Interface | IPv6Interface) -> None:
    """Give the link an address with its prefix length, `10.244.1.1/24`, for use at once."""
    interface = ip_interface(cidr)
    words = {"address": str(interface.ip), "prefixlen": interface.network.prefixlen}
    if interface.version == 6:
        words["flags"] = NODAD
    with _tolerating(errno.EEXIST):
        ip.addr("add", index=index(ip, name), **words)


def route(ip: Any, destination: str, *, via: str = "", dev: Link = "") -> None:
    """A route to `destination`, a CIDR, replacing one to the same. Without `via`: on-link."""
    words: dict[str, Any] = {"dst": destination}
    if via:
        words["gateway"] = via
    else:
        words["scope"] = "link"
    if dev:
        words["oif"] = index(ip, dev)
    ip.route("replace", **words)


@contextmanager
def _tolerating(code: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise
