"""UDP: a session for each client, with a connected socket towards its endpoint."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

from testbed.proxy.dataplane.balance import Address, Balancer
from testbed.proxy.dataplane.reactor import IN, Reactor

DATAGRAM = 65535
BATCH = 64
"""Datagrams handled before other sockets have their turn."""
IP_PKTINFO = 8
"""ip(7): tells, and sets, which local address a datagram came to or leaves from. The reply must leave from
the address the client's datagram was redirected to, or connection tracking does not know it."""
PKTINFO, PKTINFO_6 = struct.Struct("=I4s4s"), struct.Struct("=16sI")


class Session:
    """One client of one listener."""

    __slots__ = ("_back", "_client", "_listener", "_local", "endpoint", "seen", "socket")

    def __init__(self, listener: UdpListener, client: Any, local: bytes, endpoint: Address) -> None:
        self._listener = listener
        self._client = client
        self._local = local
        self._back = [_from(local)] if local else []
        self.endpoint = endpoint
        self.seen = time.monotonic()
        family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.connect(endpoint)

    def on_reply(self, _: int) -> None:
        for _ in range(BATCH):
            try:
                data = self.socket.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # the endpoint's host said that nobody is there
                self._listener.end((self._client, self._local))
                return
            self.seen = time.monotonic()
            with contextlib.suppress(OSError):
                self._listener.socket.sendmsg([data], self._back, 0, self._client)


class UdpListener:
    """One UDP port of the userspace proxy. `timeout`: seconds without a datagram until a session ends."""

    def __init__(self, reactor: Reactor, address: str, timeout: float) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self.balancer = Balancer()
        self._sessions: dict[tuple[Any, bytes], Session] = {}
        """By the client's address, and the local one it was redirected to."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.socket.bind((address, 0))
        reactor.add(self.socket.fileno(), IN, self._on_datagram)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def update(self, endpoints: tuple[Address, ...], affinity: float) -> None:
        """Sessions to endpoints that went end at once: their client's next datagram goes elsewhere."""
        self.balancer.update(endpoints, affinity)
        for key in [key for key, session in self._sessions.items() if session.endpoint not in endpoints]:
            self.end(key)

    def expire(self, now: float) -> None:
        self.balancer.expire()
        for key in [key for key, session in self._sessions.items() if now - session.seen > self._timeout]:
            self.end(key)

    def end(self, key: tuple[Any, bytes]) -> None:
        session = self._sessions.pop(key)
        self._reactor.remove(session.socket.fileno())
        session.socket.close()

    def close(self) -> None:
        for key in list(self._sessions):
            self.end(key)
        self._reactor.remove(self.socket.fileno())
        self.socket.close()

    def _on_datagram(self, _: int) -> None:
        for _ in range(BATCH):
            try:
                data, ancillary, _, client = self.socket.recvmsg(DATAGRAM, 64)
            except OSError:
                return
            local = _local(ancillary)
            session = self._sessions.get((client, local)) or self._begin(client, local)
            if session is None:
                continue
            session.seen = time.monotonic()
            try:
                session.socket.send(data)
            except BlockingIOError:
                pass  # full: the datagram is lost, as on any network
            except OSError:
                self.end((client, local))

    def _begin(self, client: Any, local: bytes) -> Session | None:
        endpoint = self.balancer.pick(client[0])
        if endpoint is None:
            return None
        try:
            session = Session(self, client, local, endpoint)
        except OSError:
            return None
        self._sessions[(client, local)] = session
        self._reactor.add(session.socket.fileno(), IN, session.on_reply)
        return session


def _local(ancillary: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The local address that a datagram came to, b"" where the kernel does not tell."""
    for level, kind, part in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return bytes(PKTINFO.unpack(part)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return bytes(PKTINFO_6.unpack(part)[0])
    return b""


def _from(local: bytes) -> tuple[int, int, bytes]:
    """What makes a datagram leave from a local address."""
    if len(local) == 4:
        return socket.IPPROTO_IP, IP_PKTINFO, PKTINFO.pack(0, local, b"\0" * 4)
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PKTINFO_6.pack(local, 0)
