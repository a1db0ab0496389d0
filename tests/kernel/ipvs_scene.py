"""Connections that stay open, for tests of how IPVS spreads and ends them; used inside a scene's Workers."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Callable, Iterator

from service_scene import PODS, TIMEOUT, Scene

from testbed.kernel.netns import Worker

KEPT = (9090, 9500)
"""Ports of a Pod whose servers keep every connection open and answer each message. Not neighbours: mh hashes
address plus port, so that 10.244.1.2:9091 and 10.244.1.3:9090 would be one to it."""


def keep(name: str, ready: int) -> None:
    """Serve TCP on the KEPT ports for ever: greet with `NAME:PORT`, then echo."""
    sockets = selectors.DefaultSelector()
    for port in KEPT:
        sockets.register(
            socket.create_server(("0.0.0.0", port), backlog=128), selectors.EVENT_READ, f"{name}:{port}"
        )
    with socket.socket(fileno=ready) as told:
        told.send(b"1")
    while True:
        for key, _ in sockets.select():
            assert isinstance(key.fileobj, socket.socket)
            if key.data:
                peer, _ = key.fileobj.accept()
                peer.sendall(key.data.encode())
                sockets.register(peer, selectors.EVENT_READ)
            else:
                _echo(key.fileobj, sockets.unregister)


def _echo(peer: socket.socket, forget: Callable[[socket.socket], object]) -> None:
    try:
        said = peer.recv(100)
    except ConnectionResetError:
        said = b""
    if said:
        peer.sendall(said)
    else:
        forget(peer)
        peer.close()


@contextlib.contextmanager
def kept_open(made: Scene) -> Iterator[None]:
    """The Pods of the scene run `keep`."""
    with contextlib.ExitStack() as stack:
        for name in PODS:
            ready, theirs = socket.socketpair()
            server = stack.enter_context(Worker(f"/proc/{made.at[name].pid}/ns/net"))
            server.start(keep, name, theirs.fileno())
            theirs.close()
            with ready:
                ready.settimeout(5)
                assert ready.recv(1) == b"1"
        yield


class Callers:
    """Open connections of one Worker, with the name of who answers each."""

    open: list[tuple[str, socket.socket]]

    @classmethod
    def call(
        cls,
        ip: str,
        port: int,
        times: int = 1,
        source: str = "",
        source_ports: int = 0,
        timeout: float = TIMEOUT,
    ) -> list[str]:
        """Open connections; who answered. `source_ports`: the first of consecutive ones, 0 for any."""
        cls.open = getattr(cls, "open", [])
        names = []
        for number in range(times):
            sock = socket.socket()
            sock.settimeout(timeout)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source, source_ports and source_ports + number))
            try:
                sock.connect((ip, port))
                names.append(sock.recv(100).decode())
            except OSError as error:
                names.append(type(error).__name__)
            cls.open.append((names[-1], sock))
        return names

    @classmethod
    def echo(cls) -> list[str]:
        """Say something on every open connection; the names of those where it came back."""
        alive = []
        for name, sock in cls.open:
            try:
                sock.sendall(b"still there?")
                if sock.recv(100) == b"still there?":
                    alive.append(name)
            except OSError:
                continue
        return alive

    @classmethod
    def hang_up(cls, name: str = "", reset: bool = False) -> None:
        """Close all connections, or those to `name`; with a reset if told so."""
        ended = [sock for who, sock in cls.open if name in ("", who)]
        cls.open = [(who, sock) for who, sock in cls.open if sock not in ended]
        for sock in ended:
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
