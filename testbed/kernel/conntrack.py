"""Connection tracking of the current network namespace: UDP flows, read and deleted over netlink."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass

from pyroute2 import Conntrack, NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from testbed.errors import TestbedError


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked flow: what the client sent to, and who answers it after translation (address, port)."""

    front: tuple[str, int]
    backend: tuple[str, int]


def forget(chosen: Callable[[Flow], bool], family: int = 4) -> int:
    """Delete the UDP flows of one IP family that `chosen` picks; returns how many. Raises TestbedError.

    Runs an event loop of pyroute2's: not to be called where a loop is running.
    """
    try:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        udp = NFCTAttrTuple(kind, proto=socket.IPPROTO_UDP)
        with Conntrack(nfgen_family=kind) as conntrack:
            entries = [
                entry
                for entry in conntrack.dump_entries(tuple_orig=udp)
                if chosen(_flow(entry.tuple_orig, entry.tuple_reply))
            ]
            return sum(_delete(conntrack, entry.tuple_orig) for entry in entries)
    except NetlinkError as error:
        raise TestbedError(f"connection tracking cannot be read: {error}") from None


def _flow(original: NFCTAttrTuple, reply: NFCTAttrTuple) -> Flow:
    return Flow((str(original.daddr), int(original.dport)), (str(reply.saddr), int(reply.sport)))


def _delete(conntrack: Conntrack, original: NFCTAttrTuple) -> bool:
    try:
        conntrack.entry("del", tuple_orig=original)
    except NetlinkError as error:
        if error.code != errno.ENOENT:  # it ended by itself meanwhile
            raise
        return False
    return True
