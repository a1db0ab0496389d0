"""`python -m testbed.proxy.dataplane FD ADDRESS UDP_TIMEOUT`: serve what is asked for on the socket FD.

It ends when the other side of that socket goes.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys

import setproctitle

from testbed.proxy.dataplane.control import Change, Done, Key, receive, send
from testbed.proxy.dataplane.limits import raise_limits
from testbed.proxy.dataplane.reactor import IN, Reactor
from testbed.proxy.dataplane.tcp import TcpListener, TcpProxy
from testbed.proxy.dataplane.udp import UdpListener

EXPIRY = 1.0
"""Seconds between two looks for sessions and affinities that have ended."""


class DataPlane:
    """The listeners by key, and the channel to the agent."""

    def __init__(self, channel: socket.socket, address: str, udp_timeout: float) -> None:
        self._channel = channel
        self._address = address
        self._udp_timeout = udp_timeout
        self._reactor = Reactor()
        self._tcp = TcpProxy(self._reactor)
        self._listeners: dict[Key, TcpListener | UdpListener] = {}
        self._expire_at = 0.0
        self._reactor.every_tick(self._expire)
        self._reactor.add(channel.fileno(), IN, self._on_change)

    def run(self) -> None:
        self._reactor.run()

    def _on_change(self, _: int) -> None:
        try:
            change: Change = receive(self._channel)
            send(self._channel, self._apply(change))
        except (EOFError, OSError):
            self._reactor.running = False

    def _apply(self, change: Change) -> Done:
        for key in change.close:
            if listener := self._listeners.pop(key, None):
                listener.close()
        ports, errors = {}, {}
        for key, wanted in change.serve.items():
            try:
                one = self._listeners.get(key) or self._listen(key)
            except OSError as error:
                errors[key] = str(error.strerror or error)
                continue
            one.update(wanted.endpoints, wanted.affinity)
            ports[key] = one.port
        return Done(ports, errors)

    def _listen(self, key: Key) -> TcpListener | UdpListener:
        new = (
            TcpListener(self._tcp, self._address)
            if key.protocol == "TCP"
            else UdpListener(self._reactor, self._address, self._udp_timeout)
        )
        self._listeners[key] = new
        return new

    def _expire(self, now: float) -> None:
        if now >= self._expire_at:
            self._expire_at = now + EXPIRY
            for listener in self._listeners.values():
                listener.expire(now)


def main() -> None:
    setproctitle.setproctitle("kube-proxy: userspace data plane")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_limits()
    fd, address, timeout = sys.argv[1:]
    plane = DataPlane(socket.socket(fileno=int(fd)), address, float(timeout))
    gc.freeze()
    plane.run()


if __name__ == "__main__":
    main()
