"""The gRPC health check against a server that speaks HTTP/2 for real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from testbed.node import probes
from testbed.node.grpc_health import check

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

KNOWN = {b"": 1, b"good": 1, b"bad": 2}
"""Service -> ServingStatus."""


async def health_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    body, path = b"", ""
    writer.write(connection.data_to_send())
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                path = dict(event.headers or ())[":path"]  # type: ignore[arg-type, index]
            elif isinstance(event, DataReceived):
                body += event.data or b""
            elif isinstance(event, StreamEnded):
                assert event.stream_id
                respond(connection, event.stream_id, path, body)
        writer.write(connection.data_to_send())
    writer.close()


def respond(connection: H2Connection, stream: int, path: str, body: bytes) -> None:
    assert path == "/grpc.health.v1.Health/Check"
    assert body[:5] == b"\0" + len(body[5:]).to_bytes(4, "big")
    service = body[7:] if body[5:] else b""
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    if service in KNOWN:
        connection.send_data(stream, b"\0\0\0\0\2\x08" + bytes([KNOWN[service]]))
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    else:
        trailers = [("grpc-status", "5"), ("grpc-message", "unknown service")]
        connection.send_headers(stream, trailers, end_stream=True)


async def speaks_http_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def ask(service: str, handler: Handler = health_server) -> tuple[bool, str]:
    async def run() -> tuple[bool, str]:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await handler(reader, writer)
            await writer.wait_closed()
            served.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            probe = {"grpc": {"port": port, "service": service}, "timeoutSeconds": 2}
            outcome = await probes.once(probe, {}, "127.0.0.1", _no_exec)
            await served.wait()
            return outcome

    return asyncio.run(run())


async def _no_exec(*_: object) -> tuple[bool, str]:
    raise AssertionError


@pytest.mark.parametrize("service", ["", "good"])
def test_a_service_that_serves_is_healthy(service: str) -> None:
    assert ask(service)[0]


@pytest.mark.parametrize(
    ("service", "handler", "why"),
    [
        ("bad", health_server, "NOT_SERVING"),
        ("other", health_server, "unknown service"),
        ("", speaks_http_1, "closed the connection"),
        ("", says_nothing, "no answer within 2 s"),
    ],
)
def test_what_is_not_healthy_is_told(service: str, handler: Handler, why: str) -> None:
    good, told = ask(service, handler)
    assert not good
    assert why in told


def test_nobody_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="Connect"):
        asyncio.run(check("127.0.0.1", 1, ""))
