"""Userspace mode's data planes on loopback: bytes arrive whole, closes and resets pass, nothing leaks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.proxy.dataplane.balance import Address
from testbed.proxy.dataplane.control import Change, Key, Listener
from testbed.proxy.dataplane.haproxy import Haproxy
from testbed.proxy.modes import userspace
from testbed.proxy.modes.userspace import DataPlane, Plane
from testbed.proxy.options import ProxyOptions

KEY = Key("default/web", "TCP")
UDP = Key("default/dns", "UDP")
OPTIONS = ProxyOptions(udp_timeout=0.3)
LARGE = os.urandom(1 << 20) * 8


@pytest.fixture(params=[lambda: Plane(OPTIONS), lambda: Haproxy("127.0.0.1")], ids=["built-in", "haproxy"])
def plane(request: pytest.FixtureRequest) -> Iterator[DataPlane]:
    one: DataPlane = request.param()
    yield one
    one.close()


@pytest.fixture
def own() -> Iterator[Plane]:
    """The built-in one."""
    one = Plane(OPTIONS)
    yield one
    one.close()


def serve(plane: DataPlane, key: Key, *endpoints: Address, affinity: float = 0) -> Address:
    done = plane.change(Change({key: Listener(endpoints, affinity)}))
    assert not done.errors
    return "127.0.0.1", done.ports[key]


@contextlib.contextmanager
def backend(handle: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A TCP server that handles each connection in a thread."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                threading.Thread(target=run, args=(peer,), daemon=True).start()

    def run(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            handle(peer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def digest(peer: socket.socket) -> None:
    """Reads to the end, then answers with a digest and ends: needs the half-close."""
    total = hashlib.sha256()
    while data := peer.recv(1 << 16):
        total.update(data)
    peer.sendall(total.digest())


def pour(peer: socket.socket) -> None:
    peer.recv(1)
    peer.sendall(LARGE)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def descriptors(plane: DataPlane) -> int:
    return len(list(Path(f"/proc/{plane.pid}/fd").iterdir()))


def test_upload_ends_by_half_close(plane: DataPlane) -> None:
    with backend(digest) as where, socket.create_connection(serve(plane, KEY, where), 5) as client:
        client.sendall(LARGE)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == hashlib.sha256(LARGE).digest()


def test_a_server_that_has_ended_still_hears(plane: DataPlane) -> None:
    """The half-close the other way round: the server says goodbye first, and then gets all of it."""
    heard: list[bytes] = []
    done = threading.Event()

    def goodbye(peer: socket.socket) -> None:
        peer.sendall(b"!")
        peer.shutdown(socket.SHUT_WR)
        heard.append(read_all(peer))
        done.set()

    with backend(goodbye) as where, socket.create_connection(serve(plane, KEY, where), 5) as client:
        assert read_all(client) == b"!"
        client.sendall(LARGE)
        client.shutdown(socket.SHUT_WR)
        assert done.wait(5)
    assert heard == [LARGE]


def test_a_client_that_has_nothing_to_say_hears_the_server(own: Plane) -> None:
    """HAProxy dials no server for a client that has ended without a word."""
    with backend(says(b"a")) as where, socket.create_connection(serve(own, KEY, where), 5) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"a"


def test_slow_reader_holds_the_sender_back_and_gets_everything(plane: DataPlane) -> None:
    """The backend has closed long before the client reads the rest."""
    with backend(pour) as where, socket.create_connection(serve(plane, KEY, where), 5) as client:
        client.sendall(b"?")
        head = client.recv(1)
        threading.Event().wait(0.3)
        rss = int(Path(f"/proc/{plane.pid}/statm").read_text().split()[1]) * 4096
        assert rss < 40 << 20, "payload is kept in the kernel's buffers, not in the process"
        assert head + read_all(client) == LARGE


def test_dead_endpoint_is_passed_over(plane: DataPlane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead: Address = closed.getsockname()
    with backend(digest) as where:
        front = serve(plane, KEY, dead, where)
        for _ in range(4):
            with socket.create_connection(front, 5) as client:
                client.sendall(b"x")  # HAProxy dials for nobody who has gone without a word
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == hashlib.sha256(b"x").digest()


def test_nobody_answers(own: Plane) -> None:
    front = serve(own, KEY)
    # the reset may come before connect has returned
    with pytest.raises(ConnectionResetError), socket.create_connection(front, 5) as client:
        client.recv(1)


def test_reset_passes(plane: DataPlane) -> None:
    seen: list[str] = []
    gone = threading.Event()

    def wait(peer: socket.socket) -> None:
        peer.sendall(b"!")
        try:
            seen.append(repr(peer.recv(1)))
        except ConnectionResetError:
            seen.append("reset")
        gone.set()

    with backend(wait) as where:
        client = socket.create_connection(serve(plane, KEY, where), 5)
        assert client.recv(1) == b"!"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert gone.wait(5)
    assert seen == ["reset"]


def says(word: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(word)


def ask(front: Address) -> bytes:
    with socket.create_connection(front, 5) as client:
        return read_all(client)


@pytest.mark.feature("A18")
def test_round_robin(plane: DataPlane) -> None:
    with backend(says(b"a")) as a, backend(says(b"b")) as b:
        front = serve(plane, KEY, a, b)
        first, second, *again = [ask(front) for _ in range(4)]
        assert {first, second} == {b"a", b"b"}
        assert again == [first, second]


@pytest.mark.feature("A18", "B2")
def test_affinity(own: Plane) -> None:
    with backend(says(b"a")) as a, backend(says(b"b")) as b:
        front = serve(own, KEY, a, b, affinity=60)
        assert len({ask(front) for _ in range(4)}) == 1
        serve(own, KEY, b, affinity=60)
        assert ask(front) == b"b"


def test_no_descriptor_leaks(plane: DataPlane) -> None:
    with backend(digest) as where:
        front = serve(plane, KEY, where)
        before = descriptors(plane)
        for round_ in range(60):
            client = socket.create_connection(front, 5)
            client.sendall(b"x" * 1000)
            if round_ % 3:
                client.shutdown(socket.SHUT_WR)
                read_all(client)
            client.close()
        deadline = threading.Event()
        for _ in range(50):
            if descriptors(plane) <= before + 4:  # a pipe or two are kept for reuse
                break
            deadline.wait(0.1)
        assert descriptors(plane) <= before + 4


def test_a_thousand_listeners(own: Plane) -> None:
    wanted = {Key(f"default/web-{i}", "TCP"): Listener((("127.0.0.1", 9),)) for i in range(1500)}
    done = own.change(Change(wanted))
    assert not done.errors
    assert len(set(done.ports.values())) == 1500
    before = descriptors(own)
    own.change(Change(close=tuple(wanted)))
    assert descriptors(own) <= before - 1500


def test_listeners_come_in_portions_and_closing_comes_once(
    own: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(userspace, "PORTION", 3)
    keys = [Key(f"default/{number}", "TCP") for number in range(8)]
    done = own.change(Change({key: Listener((("127.0.0.1", 9),)) for key in keys}))
    assert (set(done.ports), done.errors) == (set(keys), {})
    more = [Key(f"default/more-{number}", "TCP") for number in range(4)]
    again = own.change(Change({key: Listener(()) for key in more}, (keys[0], keys[7])))
    assert set(again.ports) == set(more)
    for key in (keys[0], keys[7]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", done.ports[key]), timeout=2)
    socket.create_connection(("127.0.0.1", done.ports[keys[1]]), timeout=2).close()


@pytest.mark.feature("A18", "B1")
def test_udp_sessions(own: Plane) -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        for one in (server, client):
            one.bind(("127.0.0.1", 0))
            one.settimeout(5)
        client.connect(serve(own, UDP, server.getsockname()))
        before = descriptors(own)
        sources = set()
        for text in (b"one", b"two"):
            client.send(text)
            data, source = server.recvfrom(10)
            server.sendto(data.upper(), source)
            assert client.recv(10) == text.upper()
            sources.add(source)
        assert len(sources) == 1, "one client, one session"
        pause = threading.Event()
        for _ in range(40):  # the session ends by itself
            if descriptors(own) < before + 1:
                break
            pause.wait(0.1)
        assert descriptors(own) == before
