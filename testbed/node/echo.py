"""The built-in echo server: it says who it is and who it sees, over TCP, HTTP and UDP.

A line over TCP, a GET over HTTP on the same port, or a datagram over UDP is answered with one line of JSON:
`pod`, `node`, `address` (its own), `peer`, `peer_port` and `protocol`. A request in one segment gets its
answer in one segment.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, cast

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
BACKLOG = 4096
LONGEST_HEAD = 65536
"""Bytes that may come without a line's or a head's end."""


def answer(protocol: str, address: str, peer: tuple[str, int]) -> bytes:
    """The line of JSON."""
    fields = {
        "pod": os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname(),
        "node": os.environ.get("NODE_NAME", ""),
        "address": address or os.environ.get("POD_IP", ""),
        "peer": peer[0],
        "peer_port": peer[1],
        "protocol": protocol,
    }
    return json.dumps(fields).encode() + b"\n"


class Stream(asyncio.Protocol):
    """One TCP connection. The first bytes tell whether it speaks HTTP or lines."""

    def __init__(self) -> None:
        self._data = b""
        self._http: bool | None = None
        self._skip = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._address = _plain(transport.get_extra_info("sockname")[0])
        host, port = transport.get_extra_info("peername")[:2]
        self._peer = (_plain(host), int(port))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._http is None and (len(self._data) >= 8 or b"\n" in self._data):
            self._http = self._data.startswith(METHODS)
        if self._http:
            self._serve_http()
        elif self._http is False:
            *lines, self._data = self._data.split(b"\n")
            line = answer("TCP", self._address, self._peer)
            self._transport.write(line * len(lines))
        if len(self._data) > LONGEST_HEAD:
            self._transport.close()

    def _serve_http(self) -> None:
        while True:
            dropped = min(self._skip, len(self._data))
            self._data, self._skip = self._data[dropped:], self._skip - dropped
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if self._skip or not end:
                return
            self._data = rest
            self._respond(head)

    def _respond(self, head: bytes) -> None:
        request, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = headers.get(b"content-length", b"0")
        self._skip = int(length) if length.isdigit() else 0
        body = answer("HTTP", self._address, self._peer)
        old = request.endswith(b"HTTP/1.0") and headers.get(b"connection", b"").lower() != b"keep-alive"
        close = old or headers.get(b"connection", b"").lower() == b"close"
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: %s\r\n\r\n%s"
            % (
                len(body),
                b"close" if close else b"keep-alive",
                b"" if request.startswith(b"HEAD ") else body,
            )
        )
        if close:
            self._transport.close()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP port."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str | Any, int]) -> None:
        self._transport.sendto(answer("UDP", "", (_plain(str(peer[0])), peer[1])), peer)


async def serve(tcp: Sequence[int], udp: Sequence[int]) -> None:
    """Serve until SIGTERM. Raises OSError when a port is taken."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for port in tcp:
        await loop.create_server(Stream, sock=_bound(port, socket.SOCK_STREAM))
    for port in udp:
        await loop.create_datagram_endpoint(Datagrams, sock=_bound(port, socket.SOCK_DGRAM))
    await stop.wait()


def _bound(port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket on every address of both IP families; of IPv4 alone where the kernel has no other."""
    both = socket.has_dualstack_ipv6()
    bound = socket.socket(socket.AF_INET6 if both else socket.AF_INET, kind)
    try:
        if both:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind is socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("", port))
        if kind is socket.SOCK_STREAM:
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _plain(host: str) -> str:
    """An IPv4 address as such, not as the IPv6 one that a socket of both families sees it at."""
    return host.removeprefix("::ffff:")
