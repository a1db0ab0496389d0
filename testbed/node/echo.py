"""The built-in echo server: it says who it is and who it sees, over TCP, SCTP, HTTP and UDP, IPv4 and IPv6.

A line over TCP or SCTP, a GET over HTTP on a TCP port, or a datagram over UDP is answered with one line of
JSON: `pod`, `node`, `address` (its own), `peer`, `peer_port` and `protocol`. A request in one segment gets
its answer in one segment.

One bare epoll loop: a thousand of these run at once, and asyncio would cost each 2 MB of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import Protocol

from testbed.errors import TestbedError

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
LONGEST_HEAD = 65536
"""Bytes that may come without a line's or a head's end."""
BACKLOG = 4096
MAPPED = "::ffff:"
"""Before an IPv4 address, on a socket that takes both families."""
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


def answer(protocol: str, address: str, peer: tuple[str, int]) -> bytes:
    """The line of JSON."""
    fields = {
        "pod": os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname(),
        "node": os.environ.get("NODE_NAME", ""),
        "address": address or os.environ.get("POD_IP", ""),
        "peer": peer[0].removeprefix(MAPPED),
        "peer_port": peer[1],
        "protocol": protocol,
    }
    return json.dumps(fields).encode() + b"\n"


class Ready(Protocol):
    """What a file descriptor of the loop stands for."""

    def ready(self, events: int) -> None: ...


class Loop:
    """Calls `ready` of what has become readable or writable, until SIGTERM."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._held: dict[int, Ready] = {}

    def add(self, channel: socket.socket, owner: Ready) -> None:
        channel.setblocking(False)
        self._held[channel.fileno()] = owner
        self._epoll.register(channel, READ)

    def want(self, channel: socket.socket, events: int) -> None:
        self._epoll.modify(channel, events)

    def drop(self, channel: socket.socket) -> None:
        del self._held[channel.fileno()]
        channel.close()

    def run(self) -> None:
        signal.signal(signal.SIGTERM, _stop)
        with contextlib.suppress(Stopped):
            while True:
                for descriptor, events in self._epoll.poll():
                    if descriptor in self._held:  # closed by an earlier event of the same round
                        self._held[descriptor].ready(events)


class Stopped(BaseException):
    """SIGTERM came."""


def _stop(*_: object) -> None:
    raise Stopped


class Listener:
    """A port that takes connections."""

    def __init__(self, loop: Loop, channel: socket.socket, protocol: str) -> None:
        self._loop, self._channel, self._protocol = loop, channel, protocol
        loop.add(channel, self)

    def ready(self, _: int) -> None:
        with contextlib.suppress(OSError):  # it went away again, or the table of files is full
            channel, peer = self._channel.accept()
            Stream(self._loop, channel, peer[:2], self._protocol)


class Stream:
    """One connection. The first bytes tell whether it speaks HTTP or lines."""

    def __init__(self, loop: Loop, channel: socket.socket, peer: tuple[str, int], protocol: str) -> None:
        self._loop, self._channel, self._peer, self._protocol = loop, channel, peer, protocol
        self._address = str(channel.getsockname()[0]).removeprefix(MAPPED)
        self._incoming = self._outgoing = b""
        self._http: bool | None = None
        self._skip = 0
        self._last = self._held_up = False
        if protocol == "TCP":
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add(channel, self)

    def ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
            elif data := self._channel.recv(LONGEST_HEAD):
                self._take(data)
            else:
                self._loop.drop(self._channel)
        except BlockingIOError:
            return
        except OSError:
            self._loop.drop(self._channel)

    def _take(self, data: bytes) -> None:
        self._incoming += data
        if self._http is None and (len(self._incoming) >= 8 or b"\n" in self._incoming):
            self._http = self._protocol == "TCP" and self._incoming.startswith(METHODS)
        if self._http:
            self._serve_http()
        elif self._http is False:
            *lines, self._incoming = self._incoming.split(b"\n")
            self._outgoing += answer(self._protocol, self._address, self._peer) * len(lines)
        self._last = self._last or len(self._incoming) > LONGEST_HEAD
        self._flush()

    def _flush(self) -> None:
        """Reads no more until the client has taken what was said."""
        with contextlib.suppress(BlockingIOError):
            while self._outgoing:
                self._outgoing = self._outgoing[self._channel.send(self._outgoing) :]
        held_up = bool(self._outgoing)
        if self._last and not held_up:
            self._loop.drop(self._channel)
        elif held_up != self._held_up:
            self._held_up = held_up
            self._loop.want(self._channel, WRITE if held_up else READ)

    def _serve_http(self) -> None:
        while not self._last:
            dropped = min(self._skip, len(self._incoming))
            self._incoming, self._skip = self._incoming[dropped:], self._skip - dropped
            head, end, rest = self._incoming.partition(b"\r\n\r\n")
            if self._skip or not end:
                return
            self._incoming = rest
            self._respond(head)

    def _respond(self, head: bytes) -> None:
        request, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = headers.get(b"content-length", b"0")
        self._skip = int(length) if length.isdigit() else 0
        body = answer("HTTP", self._address, self._peer)
        old = request.endswith(b"HTTP/1.0") and headers.get(b"connection", b"").lower() != b"keep-alive"
        self._last = old or headers.get(b"connection", b"").lower() == b"close"
        self._outgoing += (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: %s\r\n\r\n%s"
            % (
                len(body),
                b"close" if self._last else b"keep-alive",
                b"" if request.startswith(b"HEAD ") else body,
            )
        )


class Datagrams:
    """A UDP port. It answers from the address that it was asked at, whichever of its own that was.

    An answer is as long as its question at least: large ones go in fragments both ways.
    """

    def __init__(self, loop: Loop, channel: socket.socket) -> None:
        self._channel = channel
        if channel.family == socket.AF_INET6:
            channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        loop.add(channel, self)

    def ready(self, _: int) -> None:
        with contextlib.suppress(OSError):
            question, notes, _flags, peer = self._channel.recvmsg(65536, 64)
            asked = next((data[:16] for _, kind, data in notes if kind == socket.IPV6_PKTINFO), b"")
            address = socket.inet_ntop(socket.AF_INET6, asked).removeprefix(MAPPED) if asked else ""
            # The interface is left to the routes: a reply need not go out where the question came in.
            info = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked + bytes(4))] if asked else []
            line = answer("UDP", address, peer[:2]).ljust(len(question))
            self._channel.sendmsg([line], info, 0, peer)


Ports = dict[str, list[int]]
"""tcp, udp, sctp -> the ports to serve at."""
PROTOCOLS = ("tcp", "udp", "sctp")


def plain(words: Sequence[str]) -> Ports | None:
    """The ports of flags as the node agent writes them, `--tcp=80`. None for any others, which are the
    command line's to understand: argparse would cost each of a thousand Pods 1 MB.
    """
    ports: Ports = {}
    for word in words:
        flag, _, number = word.partition("=")
        if flag[:2] != "--" or flag[2:] not in PROTOCOLS or not number.isdigit():
            return None
        ports.setdefault(flag[2:], []).append(int(number))
    return ports


def serve(ports: Ports) -> None:
    """Serve until SIGTERM. Raises TestbedError for a port that is taken, and when the kernel has no SCTP."""
    loop = Loop()
    for protocol, numbers in ports.items():
        for number in numbers:
            try:
                _open(loop, protocol, number)
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", "") or "not a port"
                raise TestbedError(f"cannot listen on {protocol} port {number}: {why}") from None
    loop.run()


def _open(loop: Loop, protocol: str, port: int) -> None:
    if protocol == "udp":
        Datagrams(loop, _bound(port, socket.SOCK_DGRAM, _widest()))
    elif protocol == "tcp":
        Listener(loop, _bound(port, socket.SOCK_STREAM, _widest()), "TCP")
    else:
        # One socket for both families would tell each client of all the Pod's addresses; a client of a
        # Service then turns to the Pod's own, too.
        for family in {socket.AF_INET, _widest()}:
            Listener(loop, _bound(port, socket.SOCK_STREAM, family, socket.IPPROTO_SCTP), "SCTP")


def _widest() -> socket.AddressFamily:
    """Of sockets that take both families, where the kernel has them."""
    return socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET


def _bound(
    port: int, kind: socket.SocketKind, family: socket.AddressFamily, protocol: int = 0
) -> socket.socket:
    """A socket on every address of both IP families; of its own alone if it is for SCTP."""
    bound = socket.socket(family, kind, protocol)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, protocol == socket.IPPROTO_SCTP)
    if kind == socket.SOCK_STREAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("", port))
    if kind == socket.SOCK_STREAM:
        bound.listen(BACKLOG)
    return bound
