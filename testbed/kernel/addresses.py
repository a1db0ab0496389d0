"""The IP addresses of the current network namespace's interfaces, also by the ten thousand."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Collection
from ipaddress import ip_address, ip_network

from testbed.errors import TestbedError
from testbed.kernel.netlink import CREATE, EXCL, Netlink, attribute, attributes

NEW, DELETE, GET = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
SIOCGIFHWADDR = 0x8927
NODAD = 0x02
"""IFA_F_NODAD: an IPv6 address is for use at once, whatever the link."""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_IFADDRMSG = struct.Struct("=BBBBI")


def every_address(family: int = 4) -> dict[str, set[int]]:
    """Address → the indices of the interfaces that have it."""
    found: dict[str, set[int]] = {}
    with Netlink(socket.NETLINK_ROUTE) as netlink:
        for answer in netlink.dump(GET, _IFADDRMSG.pack(_FAMILIES[family], 0, 0, 0, 0)):
            kind, _, _, _, index = _IFADDRMSG.unpack_from(answer)
            values = dict(attributes(answer[_IFADDRMSG.size :]))
            raw = values.get(IFA_LOCAL) or values[IFA_ADDRESS]
            found.setdefault(socket.inet_ntop(kind, raw), set()).add(index)
    return found


def local_addresses(family: int = 4, *, without: str = "") -> tuple[str, ...]:
    """Every address but loopback and link-local ones and those of the interface `without`, sorted."""
    skipped = index_of(without)
    found = [ip_address(ip) for ip, indices in every_address(family).items() if indices - {skipped}]
    usable = [one for one in found if not one.is_loopback and not one.is_link_local]
    return tuple(str(one) for one in sorted(usable, key=int))


def on_interface(name: str, family: int = 4) -> set[str]:
    """The addresses of one interface; none when there is no such interface."""
    index = index_of(name)
    return {ip for ip, indices in every_address(family).items() if index in indices}


def change(name: str, *, add: Collection[str], remove: Collection[str]) -> None:
    """Give the interface the single addresses `add` and take `remove` from it. Raises TestbedError."""
    index = index_of(name)
    messages = [(DELETE, 0, _message(ip, index)) for ip in remove]
    messages += [(NEW, CREATE | EXCL, _message(ip, index)) for ip in add]
    with Netlink(socket.NETLINK_ROUTE) as netlink:
        failed = netlink.request(messages)
    wrong = {n: code for n, code in failed.items() if code not in (errno.EEXIST, errno.EADDRNOTAVAIL)}
    if wrong:
        position, code = next(iter(wrong.items()))
        ip = [*remove, *add][position]
        raise TestbedError(f"address {ip} on {name}: {errno.errorcode.get(code, code)}")


def within(addresses: tuple[str, ...], cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `addresses` that lie in one of `cidrs`; all of them when there are none."""
    networks = [ip_network(cidr, strict=False) for cidr in cidrs]
    return tuple(ip for ip in addresses if not networks or any(ip_address(ip) in net for net in networks))


def index_of(name: str) -> int:
    """The index of an interface, 0 when there is none of that name."""
    try:
        return socket.if_nametoindex(name) if name else 0
    except OSError:
        return 0


def mac_of(name: str) -> bytes:
    """The hardware address of an interface (netdevice(7)). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
    return answer[18:24]


def _message(ip: str, index: int) -> bytes:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    raw = socket.inet_pton(family, ip)
    flags = NODAD if family == socket.AF_INET6 else 0
    head = _IFADDRMSG.pack(family, 8 * len(raw), flags, 0, index)
    return head + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
