"""rtnetlink messages for what is made by the thousand: Pods' links, addresses and routes, in one send.

What `link.py` does with pyroute2 in 20 ms of processor time a Pod is packed here in a fraction of one. Each
function returns a message; `send` sends them in order. Sources: rtnetlink(7), linux/if_link.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface

from testbed.kernel.netlink import CREATE, EXCL, REPLACE, Netlink, attribute
from testbed.model.families import Address, Network

Message = tuple[int, int, bytes]
"""Type, flags, payload."""

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH, _DELNEIGH = 16, 17, 20, 24, 28, 29
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER, _BRPORT_MODE = 1, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_NTF_MASTER = 0x04
_MAIN_TABLE, _BY_HAND, _UNICAST = 254, 4, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_IFF_UP = 1

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBx")
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def send(messages: Iterable[Message], but: Sequence[int] = ()) -> None:
    """Send them in order. Raises OSError for the first that failed, the errnos in `but` left aside."""
    with Netlink(socket.NETLINK_ROUTE) as netlink:
        failed = netlink.request(messages)
    for code in (failed[position] for position in sorted(failed)):
        if code not in but:
            raise OSError(code, os.strerror(code))


def bridge(name: str, *, mtu: int, mac: bytes) -> Message:
    """A bridge that keeps its address `mac`, whichever ports come and go. EEXIST when there is one."""
    info = attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
    return (
        _NEWLINK,
        CREATE | EXCL,
        _head() + _name(name) + _number(_IFLA_MTU, mtu) + attribute(_IFLA_ADDRESS, mac) + info,
    )


def veth(name: str, peer: str, *, netns: int, mtu: int, master: int, mac: bytes) -> Message:
    """A pair of links: `name`, up and a port of the bridge with index `master`; `peer`, born in `netns` with
    the hardware address `mac`.
    """
    other = _head() + _name(peer) + _number(_IFLA_MTU, mtu) + _number(_IFLA_NET_NS_FD, netns)
    other += attribute(_IFLA_ADDRESS, mac)
    data = attribute(_INFO_DATA, attribute(_VETH_INFO_PEER, other))
    info = attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, b"veth") + data)
    payload = _head(_IFF_UP) + _name(name) + _number(_IFLA_MTU, mtu) + _number(_IFLA_MASTER, master) + info
    return _NEWLINK, CREATE | EXCL, payload


def hairpin(name: str) -> Message:
    """A frame may leave the bridge by the port `name` that it came in by."""
    mode = attribute(_INFO_SLAVE_DATA, attribute(_BRPORT_MODE, b"\1"))
    info = attribute(_IFLA_LINKINFO, attribute(_INFO_SLAVE_KIND, b"bridge") + mode)
    return _NEWLINK, 0, _head() + _name(name) + info


def up(index: int) -> Message:
    return _NEWLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)


def removal(name: str) -> Message:
    """ENODEV when there is no such link."""
    return _DELLINK, 0, _head() + _name(name)


def address(index: int, interface: IPv4Interface | IPv6Interface) -> Message:
    """An address with its prefix length for the link with that index, usable at once."""
    raw = interface.ip.packed
    flags = _IFA_F_NODAD if interface.version == 6 else 0
    head = _ADDRESS.pack(_FAMILIES[interface.version], interface.network.prefixlen, flags, 0, index)
    return _NEWADDR, CREATE | EXCL, head + attribute(_IFA_LOCAL, raw) + attribute(_IFA_ADDRESS, raw)


def route(index: int, destination: Network, via: Address | None = None) -> Message:
    """A route through the link with that index; without `via` what it leads to is on that link."""
    scope = _SCOPE_UNIVERSE if via or destination.version == 6 else _SCOPE_LINK
    family, length = _FAMILIES[destination.version], destination.prefixlen
    head = _ROUTE.pack(family, length, 0, 0, _MAIN_TABLE, _BY_HAND, scope, _UNICAST, 0)
    parts = [head, _number(_RTA_OIF, index)]
    if length:
        parts.append(attribute(_RTA_DST, destination.network_address.packed))
    if via:
        parts.append(attribute(_RTA_GATEWAY, via.packed))
    return _NEWROUTE, CREATE | REPLACE, b"".join(parts)


def neighbour(index: int, address: Address, mac: bytes) -> Message:
    """Who has an address on the link with that index, known for good and not asked for.

    Such entries do not count towards gc_thresh3, a limit on those of all namespaces of the kernel together
    (neigh_alloc in net/core/neighbour.c).
    """
    head = _NEIGHBOUR.pack(_FAMILIES[address.version], index, _NUD_PERMANENT, 0)
    payload = head + attribute(_NDA_DST, address.packed) + attribute(_NDA_LLADDR, mac)
    return _NEWNEIGH, CREATE | REPLACE, payload


def no_neighbour(index: int, address: Address) -> Message:
    """ENOENT when nobody has the address."""
    head = _NEIGHBOUR.pack(_FAMILIES[address.version], index, 0, 0)
    return _DELNEIGH, 0, head + attribute(_NDA_DST, address.packed)


def behind(index: int, mac: bytes) -> Message:
    """A bridge finds `mac` behind its port with that index, before that has sent anything."""
    head = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_NOARP, _NTF_MASTER)
    return _NEWNEIGH, CREATE | REPLACE, head + attribute(_NDA_LLADDR, mac)


def _head(flags: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, flags, flags)


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))
