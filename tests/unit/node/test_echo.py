from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import pytest

from testbed.node import probes
from testbed.node.echo import serve


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server() -> Iterator[int]:
    port = _free_port()
    process = get_context("fork").Process(target=serve, args=({"tcp": [port], "udp": [port]},))
    process.start()
    try:
        asyncio.run(probes.listening(process.pid or 0, ["127.0.0.1"], [("tcp", port), ("udp", port)]))
        yield port
    finally:
        process.terminate()
        process.join(5)
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with _server() as port:
        yield port


def _exchange(port: int, data: bytes, answers: int = 1) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)
        received = b""
        while received.count(b"}\n") < answers:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        return received


def _check(fields: dict[str, Any], protocol: str) -> None:
    assert (fields["peer"], fields["protocol"]) == ("127.0.0.1", protocol)
    assert set(fields) == {"pod", "node", "address", "peer", "peer_port", "protocol"}


def test_a_line_is_answered_with_a_line(port: int) -> None:
    _check(json.loads(_exchange(port, b"hello\n")), "TCP")
    assert len(_exchange(port, b"one\ntwo\n", 2).splitlines()) == 2


def test_http_on_the_same_port_keeps_the_connection(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    received = _exchange(port, request + request, 2)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    _check(json.loads(received.rpartition(b"\r\n\r\n")[2]), "HTTP")


def test_the_body_of_a_request_is_skipped_and_an_old_client_gets_its_end(port: int) -> None:
    post = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"
    received = _exchange(port, post + b"GET / HTTP/1.0\r\n\r\n", 3)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b"Connection: close" in received


def test_a_datagram_is_answered_with_a_datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"x", ("127.0.0.1", port))
        fields = json.loads(client.recv(65536))
        _check(fields, "UDP")
        assert fields["peer_port"] == client.getsockname()[1]


@pytest.mark.parametrize(
    ("probe", "good"),
    [
        ({"tcpSocket": {"port": "web"}}, True),
        ({"httpGet": {"path": "/", "port": "web"}}, True),
        ({"tcpSocket": {"port": "gone"}}, False),
        ({"exec": {"command": ["false"]}}, False),
    ],
)
def test_probes(port: int, probe: dict[str, Any], good: bool) -> None:
    async def run(argv: Any, timeout: float) -> tuple[bool, str]:
        return argv != ["false"], ""

    container = {"ports": [{"name": "web", "containerPort": port}]}
    assert asyncio.run(probes.once(probe, container, "127.0.0.1", run))[0] is good


def test_a_refused_connection_is_told_and_not_raised() -> None:
    async def run(argv: Any, timeout: float) -> tuple[bool, str]:
        raise AssertionError

    good, why = asyncio.run(probes.once({"tcpSocket": {"port": _free_port()}}, {}, "127.0.0.1", run))
    assert not good
    assert "refused" in why.lower() or "connect" in why.lower()
