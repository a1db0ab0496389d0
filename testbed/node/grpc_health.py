"""The gRPC health check, client side: one call of grpc.health.v1.Health/Check over plain HTTP/2.

Protocol: grpc/doc/PROTOCOL-HTTP2.md and health-checking.md. The two messages are small enough to be written
by hand: HealthCheckRequest is `string service = 1`, HealthCheckResponse `ServingStatus status = 1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
SERVING = STATUSES[1]
UNIMPLEMENTED = "12"
CHUNK = 1 << 16


@dataclass
class _Answer:
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False


async def check(host: str, port: int, service: str) -> tuple[bool, str]:
    """Whether the server says that `service` is SERVING ("": itself), and else why not. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    try:
        connection.initiate_connection()
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, _headers(f"{host}:{port}"))
        connection.send_data(stream, _framed(_request(service)), end_stream=True)
        answer = _Answer()
        while not answer.ended:
            writer.write(connection.data_to_send())
            data = await reader.read(CHUNK)
            if not data:
                return False, "the server closed the connection without an answer"
            for event in connection.receive_data(data):
                _take(answer, event, connection)
        return _verdict(answer)
    except ProtocolError as error:
        return False, f"the server does not speak HTTP/2: {error}"
    finally:
        writer.close()


def _headers(authority: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", "/grpc.health.v1.Health/Check"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe"),
    ]


def _request(service: str) -> bytes:
    name = service.encode()
    return bytes([0x0A, len(name)]) + name if name else b""


def _framed(message: bytes) -> bytes:
    """Not compressed, and how long it is."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _take(answer: _Answer, event: Event, connection: H2Connection) -> None:
    if isinstance(event, ResponseReceived | TrailersReceived):
        answer.headers |= dict(event.headers or ())  # type: ignore[arg-type]
    elif isinstance(event, DataReceived):
        answer.data += event.data or b""
        connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
    elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
        answer.ended = True


def _verdict(answer: _Answer) -> tuple[bool, str]:
    headers: Mapping[str, str] = answer.headers
    code = headers.get("grpc-status", "")
    if code == UNIMPLEMENTED:
        return False, "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    if code != "0":
        http = headers.get(":status", "none")
        told = headers.get("grpc-message") or (
            f"code {code}" if code else f"no gRPC answer, HTTP status {http}"
        )
        return False, f"health rpc probe failed: {told}"
    message = answer.data[5:]
    number = message[1] if message[:1] == b"\x08" and len(message) > 1 else 0
    status = STATUSES[number] if number < len(STATUSES) else str(number)
    return status == SERVING, f"service unhealthy (responded with {status!r})"
