"""Capture in a network namespace: an AF_PACKET socket that is open before the first packet.

A packet reaches such a socket before its receiver's protocol stack sees it. So whoever got an answer finds
every packet that led to it already captured: no wait is needed.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.kernel.namespaces import inside

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
PACKET_OUTGOING = 4
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
BUFFER = 8 << 20
"""Bytes. The kernel counts about 800 for a small packet."""

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
LOST = {"ICMP": (3,), "ICMPv6": (1, 2)}
"""The types that say that a packet did not get there: destination unreachable; packet too big."""
PORT_UNREACHABLE = {"ICMP": (3, 3), "ICMPv6": (1, 4)}
TOO_BIG = {"ICMP": (3, 4), "ICMPv6": (2, 0)}
"""Type and code (RFC 792, RFC 4443)."""


Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand: struct sock_filter (linux/filter.h)."""


@dataclass(frozen=True)
class Packet:
    """A captured packet. Addresses are text; ports are 0 for ICMP. `quoted`: what an ICMP error is about."""

    protocol: str
    source: str
    source_port: int
    to: str
    port: int
    flags: int = 0
    payload: bytes = b""
    icmp: tuple[int, int] = (0, 0)
    quoted: Packet | None = None


class Capture(ABC):
    """What passes through a namespace, from its begin on. A context manager."""

    @abstractmethod
    def passed(self) -> list[tuple[bytes, bool]]:
        """What passed since the last time, in its order: the packet, and whether the namespace sent it."""

    @abstractmethod
    def close(self) -> None: ...

    def read(self, *, outgoing: bool = False) -> list[bytes]:
        """What came in since the last time; with `outgoing`, what this namespace sent."""
        return [data for data, sent in self.passed() if sent is outgoing]

    def read_both(self) -> tuple[list[bytes], list[bytes]]:
        """What came in since the last time; and all that passed, in its order."""
        passed = self.passed()
        return [data for data, sent in passed if not sent], [data for data, _ in passed]

    def drain(self) -> None:
        """Forget what came since the last time."""
        self.passed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sniffer(Capture):
    """What passes the filter `program` in one namespace, on all of its links but `without`."""

    def __init__(self, netns: str | Path, program: list[Instruction], without: str = "") -> None:
        self.without = without
        with inside(netns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        _attach(self.socket, program)
        self.drain()  # what came before the filter was in place

    def passed(self) -> list[tuple[bytes, bool]]:
        return list(self._waiting())

    def _waiting(self) -> Iterator[tuple[bytes, bool]]:
        while True:
            try:
                data, (link, _, direction, *_) = self.socket.recvfrom(65535)
            except BlockingIOError:
                return
            if link != self.without:
                yield data, direction == PACKET_OUTGOING

    def close(self) -> None:
        self.socket.close()


LOAD_WORD, LOAD_BYTE, LOAD_HALF, LOAD_HALF_X, HEADER_LENGTH_X = 0x20, 0x30, 0x28, 0x48, 0xB1
JUMP_EQUAL, JUMP_SET, RETURN = 0x15, 0x45, 0x06
PROTOCOL_OF_FRAME = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL
MARK_OF_FRAME = 0xFFFFF014  # SKF_AD_OFF + SKF_AD_MARK
EVERYTHING = 0xFFFFFFFF
IPV6_HEADER = 40
"""Bytes. Of extension headers, only that of fragments is expected."""


def port_filter(ports: Iterable[int]) -> list[Instruction]:
    """Everything that is ICMP, an IPv6 fragment, or has one of `ports` at either end.

    A classic BPF program for a SOCK_DGRAM packet socket, which sees the packet from its IP header on.
    """
    wanted = list(ports)
    tests = [*_port_tests(wanted, LOAD_HALF_X, 0), (RETURN, 0, 0, 0), (RETURN, 0, 0, EVERYTHING)]
    tests6 = [*_port_tests(wanted, LOAD_HALF, IPV6_HEADER), (RETURN, 0, 0, 0), (RETURN, 0, 0, EVERYTHING)]
    drop, take, drop6 = len(tests) - 2, len(tests) - 1, len(tests6) - 2
    return [
        (LOAD_HALF, 0, 0, PROTOCOL_OF_FRAME),
        (JUMP_EQUAL, 0, take + 7, ETH_P_IP),
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_EQUAL, take + 4, 0, socket.IPPROTO_ICMP),
        (JUMP_EQUAL, 2, 0, socket.IPPROTO_TCP),
        (JUMP_EQUAL, 1, 0, socket.IPPROTO_UDP),
        (JUMP_EQUAL, 0, drop + 1, socket.IPPROTO_SCTP),
        (HEADER_LENGTH_X, 0, 0, 0),
        *tests,
        (JUMP_EQUAL, 0, drop6 + 6, ETH_P_IPV6),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_EQUAL, drop6 + 5, 0, socket.IPPROTO_ICMPV6),
        (JUMP_EQUAL, drop6 + 4, 0, socket.IPPROTO_FRAGMENT),
        (JUMP_EQUAL, 2, 0, socket.IPPROTO_TCP),
        (JUMP_EQUAL, 1, 0, socket.IPPROTO_UDP),
        (JUMP_EQUAL, 0, drop6, socket.IPPROTO_SCTP),
        *tests6,
    ]


def _port_tests(wanted: Sequence[int], load: int, start: int) -> Iterator[Instruction]:
    """Jump past the instruction after these, if one of the ports is at either end."""
    left = 2 * (len(wanted) + 1)
    for offset in (0, 2):
        yield (load, 0, 0, start + offset)
        left -= 1
        for port in wanted:
            left -= 1
            yield (JUMP_EQUAL, left + 1, 0, port)


def mark_filter(bits: int) -> list[Instruction]:
    """Every packet whose mark has one of `bits`."""
    return [
        (LOAD_WORD, 0, 0, MARK_OF_FRAME),
        (JUMP_SET, 0, 1, bits),
        (RETURN, 0, 0, EVERYTHING),
        (RETURN, 0, 0, 0),
    ]


def _attach(sniffer: socket.socket, program: list[Instruction]) -> None:
    """SO_ATTACH_FILTER with a struct sock_fprog, socket(7)."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sniffer.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(buffer))
    )
