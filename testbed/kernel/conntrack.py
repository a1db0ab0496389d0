"""Connection tracking of the current network namespace: flows read and deleted over netlink, in bulk.

Source of the numbers: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from testbed.errors import TestbedError
from testbed.kernel.netlink import Netlink, attribute, attributes

NETLINK_NETFILTER = 12
_SUBSYSTEM, _GET, _DELETE = 1 << 8, 1, 2
_ORIGINAL, _REPLY, _ADDRESSES, _PROTOCOL = 1, 2, 1, 2
_SOURCE = {socket.AF_INET: 1, socket.AF_INET6: 3}
_DESTINATION = {socket.AF_INET: 2, socket.AF_INET6: 4}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

Front = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked flow: what the client sent to, and who answers it after translation."""

    protocol: int
    front: Front
    backend: Front
    key: bytes = field(default=b"", compare=False, repr=False)
    """How the kernel knows it: its original direction."""


def flows(protocols: Collection[int], family: int = 4) -> Iterator[Flow]:
    """The flows of these protocols (numbers as in socket.IPPROTO_UDP). Raises TestbedError."""
    kind = _FAMILIES[family]
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            for answer in netlink.dump(_SUBSYSTEM | _GET, _head(kind)):
                found = dict(attributes(answer[4:]))
                original = dict(attributes(found[_ORIGINAL]))
                ports = dict(attributes(original[_PROTOCOL]))
                if (number := ports[_NUMBER][0]) not in protocols:
                    continue
                reply = dict(attributes(found[_REPLY]))
                front = _place(original[_ADDRESSES], _DESTINATION[kind], kind, ports[_DESTINATION_PORT])
                answers = dict(attributes(reply[_PROTOCOL]))
                backend = _place(reply[_ADDRESSES], _SOURCE[kind], kind, answers[_SOURCE_PORT])
                yield Flow(number, front, backend, found[_ORIGINAL])
    except OSError as error:
        raise TestbedError(f"connection tracking cannot be read: {error}") from None


def forget(some: Iterable[Flow], family: int = 4) -> int:
    """Delete flows; returns how many were still there. Raises TestbedError."""
    head = _head(_FAMILIES[family])
    messages = [(_SUBSYSTEM | _DELETE, 0, head + attribute(_ORIGINAL | 1 << 15, one.key)) for one in some]
    if not messages:
        return 0
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            failed = netlink.request(messages)
    except OSError as error:
        raise TestbedError(f"connection tracking cannot be changed: {error}") from None
    if wrong := [code for code in failed.values() if code != errno.ENOENT]:
        name = errno.errorcode.get(wrong[0], wrong[0])
        raise TestbedError(f"connection tracking cannot be changed: {name}")
    return len(messages) - len(failed)


def _head(kind: int) -> bytes:
    return struct.pack("=BBH", kind, 0, 0)


def _place(addresses: bytes, which: int, kind: int, port: bytes) -> Front:
    raw = dict(attributes(addresses))[which]
    return socket.inet_ntop(kind, raw), int.from_bytes(port[:2], "big")
