"""TCP connections carried by splice(2): the payload goes from socket to pipe to socket inside the kernel."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

from testbed.proxy.dataplane.balance import Address, Balancer
from testbed.proxy.dataplane.reactor import ERROR, IN, OUT, Reactor

CHUNK = 1 << 16
"""Bytes moved by one splice: what a pipe holds."""
ROUNDS = 16
"""Chunks moved before other connections have their turn."""
ACCEPTS = 64
DIAL_TIMEOUTS = (0.25, 0.5, 1.0, 2.0)
"""Seconds an endpoint has to answer, attempt by attempt, each with the next endpoint; as upstream."""
FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close sends a reset."""

Pipe = tuple[int, int]


class Pipes:
    """Empty pipes, kept for reuse. A connection holds one only while bytes wait in it."""

    def __init__(self, spare: int = 256) -> None:
        self._spare = spare
        self._free: list[Pipe] = []

    def take(self) -> Pipe:
        return self._free.pop() if self._free else os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def give(self, pipe: Pipe, *, empty: bool = True) -> None:
        if empty and len(self._free) < self._spare:
            self._free.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])


class Flow:
    """One direction of a connection."""

    __slots__ = ("ended", "held", "pipe", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pipe: Pipe | None = None
        self.held = 0
        self.ended = False

    def move(self, pipes: Pipes) -> None:
        """Move what can be moved. Raises OSError when either side has failed."""
        for _ in range(ROUNDS):
            if not self.held and not self.ended and not self._take_in(pipes):
                return
            if self.held and not self._put_out(pipes):
                return
            if self.ended:
                self._half_close()
                return

    def _take_in(self, pipes: Pipes) -> bool:
        pipe = self.pipe = pipes.take()
        try:
            self.held = os.splice(self.source.fileno(), pipe[1], CHUNK, flags=FLAGS)
            self.ended = not self.held
        except BlockingIOError:
            return False
        finally:
            if not self.held:
                pipes.give(pipe)
                self.pipe = None
        return True

    def _put_out(self, pipes: Pipes) -> bool:
        assert self.pipe
        whole = self.held
        try:
            self.held -= os.splice(self.pipe[0], self.sink.fileno(), whole, flags=FLAGS)
        except BlockingIOError:
            return False
        if self.held:
            return False
        pipes.give(self.pipe)
        self.pipe = None
        return whole == CHUNK  # less: most likely nothing more is there yet, epoll will tell

    def _half_close(self) -> None:
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def release(self, pipes: Pipes) -> None:
        if self.pipe:
            pipes.give(self.pipe, empty=not self.held)
            self.pipe = None


class Connection:
    """A client and its endpoint: dialled, carried in both directions, half-closed, closed."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, client_ip: str, balancer: Balancer) -> None:
        self._proxy = proxy
        self._client = client
        self._client_ip = client_ip
        self._balancer = balancer
        self._server: socket.socket | None = None
        self._masks: dict[int, int] = {}
        """What epoll watches each socket for. One that hung up is watched no more: it would not be still."""
        self._flows: tuple[Flow, ...] = ()
        self._attempt = 0
        self.deadline = 0.0
        self.dial()

    def dial(self) -> None:
        """Try the next endpoint; without one that answers, the client is reset."""
        self._drop_server()
        while self._attempt < len(DIAL_TIMEOUTS):
            endpoint = self._balancer.pick(self._client_ip, fresh=self._attempt > 0)
            if endpoint is None:
                break
            self.deadline = time.monotonic() + DIAL_TIMEOUTS[self._attempt]
            self._attempt += 1
            if self._connect(endpoint):
                return
        self.close(reset=True)

    def _connect(self, endpoint: Address) -> bool:
        family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
        try:
            server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:  # out of descriptors
            return False
        failed = server.connect_ex(endpoint)
        if failed not in (0, errno.EINPROGRESS):
            server.close()
            return False
        self._server = server
        self._proxy.dialling.add(self)
        self._proxy.reactor.add(server.fileno(), OUT, self._on_connect)
        return True

    def _on_connect(self, _: int) -> None:
        assert self._server
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.dial()
            return
        self._proxy.dialling.discard(self)
        try:
            self._carry(self._server)
        except OSError:
            self.close(reset=True)

    def _carry(self, server: socket.socket) -> None:
        self._flows = (Flow(self._client, server), Flow(server, self._client))
        for one in (self._client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._masks[one.fileno()] = IN
        self._proxy.reactor.redirect(server.fileno(), IN, self._on_server)
        self._proxy.reactor.add(self._client.fileno(), IN, self._on_client)

    def _on_client(self, mask: int) -> None:
        self._on_event(mask, *self._flows)

    def _on_server(self, mask: int) -> None:
        self._on_event(mask, *reversed(self._flows))

    def _on_event(self, mask: int, outward: Flow, inward: Flow) -> None:
        """`outward` reads from the socket that has news, `inward` writes to it."""
        try:
            if mask & (IN | ERROR):
                outward.move(self._proxy.pipes)
            if mask & OUT:
                inward.move(self._proxy.pipes)
            if mask & ERROR:
                self._unwatch(outward.source.fileno())
            self._drain_hung()
        except OSError:
            self.close(reset=True)
            return
        there, back = self._flows
        if there.ended and back.ended and not there.held and not back.held:
            self.close()
            return
        self._watch(there, back)
        self._watch(back, there)

    def _unwatch(self, fd: int) -> None:
        if self._masks.pop(fd, None) is not None:
            self._proxy.reactor.remove(fd)

    def _drain_hung(self) -> None:
        """Nothing will call for a socket that hung up: move on whenever its bytes have found room."""
        for flow in self._flows:
            while flow.source.fileno() not in self._masks and not flow.held and not flow.ended:
                flow.move(self._proxy.pipes)

    def _watch(self, reads: Flow, writes: Flow) -> None:
        """Wait for what is needed of one socket: its bytes unless some are held, its room if some are."""
        fd = reads.source.fileno()
        mask = (0 if reads.ended or reads.held else IN) | (OUT if writes.held else 0)
        if mask != self._masks.get(fd, mask):
            self._masks[fd] = mask
            self._proxy.reactor.modify(fd, mask)

    def close(self, *, reset: bool = False) -> None:
        for flow in self._flows:
            flow.release(self._proxy.pipes)
        self._flows = ()
        self._drop_server(reset)
        self._proxy.reactor.remove(self._client.fileno())
        _close(self._client, reset)

    def _drop_server(self, reset: bool = False) -> None:
        self._proxy.dialling.discard(self)
        if self._server:
            self._proxy.reactor.remove(self._server.fileno())
            _close(self._server, reset)
            self._server = None


def _close(sock: socket.socket, reset: bool) -> None:
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class TcpProxy:
    """What all TCP listeners share."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.pipes = Pipes()
        self.dialling: set[Connection] = set()
        reactor.every_tick(self._give_up)

    def _give_up(self, now: float) -> None:
        for connection in [one for one in self.dialling if one.deadline <= now]:
            connection.dial()


class TcpListener:
    """One listening port of the userspace proxy."""

    def __init__(self, proxy: TcpProxy, address: str) -> None:
        self._proxy = proxy
        self._paused = False
        self.balancer = Balancer()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family, backlog=1024)
        self._socket.setblocking(False)
        proxy.reactor.add(self._socket.fileno(), IN, self._on_accept)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def update(self, endpoints: tuple[Address, ...], affinity: float) -> None:
        self.balancer.update(endpoints, affinity)

    def expire(self, _: float) -> None:
        self.balancer.expire()
        if self._paused:
            self._paused = False
            self._proxy.reactor.add(self._socket.fileno(), IN, self._on_accept)

    def close(self) -> None:
        """Connections that are open live on."""
        self._proxy.reactor.remove(self._socket.fileno())
        self._socket.close()

    def _on_accept(self, _: int) -> None:
        for _ in range(ACCEPTS):
            try:
                client, address = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):  # until `expire`: some will have ended
                    self._paused = True
                    self._proxy.reactor.remove(self._socket.fileno())
                return
            client.setblocking(False)
            Connection(self._proxy, client, address[0], self.balancer)
