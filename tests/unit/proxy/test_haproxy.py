"""HAProxy as userspace mode's data plane: its configuration, and what a change costs it.

The bytes it carries are tested beside the built-in one's, in test_dataplane.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from test_dataplane import KEY, backend, read_all, serve
from test_golden import held_by_golden

from testbed.proxy.dataplane.balance import Address
from testbed.proxy.dataplane.control import Change, Done, Key, Listener
from testbed.proxy.dataplane.haproxy import SPARE, Haproxy
from testbed.proxy.dataplane.haproxy_config import Section, text
from testbed.proxy.modes.userspace_haproxy import Shared

SECTIONS = (
    Section("s1", 11, (("10.244.1.2", 80), ("10.244.2.2", 80))),
    Section("s2", 12, (("fd00:10:244:1::2", 80),)),
    Section("s3", 13),
)


@pytest.fixture
def haproxy() -> Iterator[Haproxy]:
    one = Haproxy("127.0.0.1")
    yield one
    one.close()


def says(word: bytes) -> AbstractContextManager[Address]:
    """A server that says its word to whoever comes, and again after each line it gets."""

    def handle(peer: socket.socket) -> None:
        peer.sendall(word)
        while peer.recv(100):
            peer.sendall(word)

    return backend(handle)


def ask(front: Address) -> bytes:
    with socket.create_connection(front, 5) as client:
        client.settimeout(5)
        return client.recv(10)


def key(number: int) -> Key:
    return Key(f"default/web-{number}", "TCP")


def test_only_plain_tcp_is_haproxys() -> None:
    taken: dict[str, list[Key]] = {"haproxy": [], "own": []}

    class Recorder:
        pid, alive = 1, True

        def __init__(self, name: str) -> None:
            self.name = name

        def change(self, change: Change) -> Done:
            taken[self.name] += [*change.serve, *change.close]
            return Done(dict.fromkeys(change.serve, 1), {})

        def close(self) -> None: ...

    plain, sticky, udp = KEY, KEY._replace(sticky=True), KEY._replace(protocol="UDP")
    shared = Shared(Recorder("haproxy"), Recorder("own"))
    done = shared.change(Change({one: Listener(()) for one in (plain, sticky, udp)}, (key(1),)))
    assert taken == {"haproxy": [plain, key(1)], "own": [sticky, udp]}
    assert done.ports.keys() == {plain, sticky, udp}


def test_configuration() -> None:
    held_by_golden("haproxy", text(SECTIONS, 9))


def test_an_endpoint_comes_and_goes_without_a_reload(haproxy: Haproxy) -> None:
    with says(b"a") as a, says(b"b") as b:
        front = serve(haproxy, KEY, a)
        pid = haproxy.pid
        with socket.create_connection(front, 5) as kept:
            assert kept.recv(10) == b"a"
            for endpoints, due in (((a, b), {b"a", b"b"}), ((b,), {b"b"}), ((a,), {b"a"}), ((b,), {b"b"})):
                assert serve(haproxy, KEY, *endpoints) == front
                assert {ask(front) for _ in range(6)} == due
            kept.sendall(b"\n")
            assert kept.recv(10) == b"a", "connections to an endpoint that went live on"
        assert haproxy.pid == pid


def test_a_service_takes_a_spare_section_and_gives_it_back(haproxy: Haproxy) -> None:
    pid = haproxy.pid
    with says(b"a") as a, says(b"b") as b:
        for number in range(3 * SPARE):
            assert ask(serve(haproxy, key(number), a)) == b"a"
            haproxy.change(Change(close=(key(number),)))
        assert ask(serve(haproxy, KEY, b)) == b"b", "nothing is left of who had the section before"
    assert haproxy.pid == pid


def test_connections_live_through_reloads(haproxy: Haproxy) -> None:
    with says(b"a") as a, says(b"b") as b:
        front = serve(haproxy, KEY, a)
        with socket.create_connection(front, 5) as kept:
            assert kept.recv(10) == b"a"
            for number in range(3):
                pid = haproxy.pid
                many = {key(i): Listener((b,)) for i in range(number * 100, number * 100 + 100)}
                haproxy.change(Change(many))
                assert haproxy.pid != pid
                assert {ask(front) for _ in range(4)} == {b"a"}
            kept.sendall(b"\n")
            assert kept.recv(10) == b"a"


def test_a_process_that_is_not_as_it_was_left_is_replaced(haproxy: Haproxy) -> None:
    with says(b"a") as a, says(b"b") as b:
        front = serve(haproxy, KEY, a)
        (section,) = haproxy._taken.values()
        assert haproxy._running
        haproxy._running.retire([(section.name, a)])
        haproxy._running.delete([(section.name, a)])
        serve(haproxy, KEY, b)
        assert ask(front) == b"b"


def test_nobody_is_left_when_it_ends(haproxy: Haproxy) -> None:
    with says(b"a") as a, socket.create_connection(serve(haproxy, KEY, a), 5) as kept:
        assert kept.recv(10) == b"a"
        haproxy.change(Change({key(i): Listener((a,)) for i in range(SPARE)}))
        assert len(haproxy._ended) == 1, "the first process stays for the connection"
        haproxy.close()
        assert read_all(kept) == b""
