"""One question from a real socket in a namespace, and what its sender got to know."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from testbed.packets.patience import patience
from testbed.packets.sockets import open_socket

FIRST_PORT, LAST_PORT = 10000, 28999
"""Source ports: below those that the kernel and node ports give out. Each is used once in a run, so that no
connection tracking entry of an earlier probe decides over a later one."""


class Result(StrEnum):
    """What the socket said."""

    ANSWERED = "answered"
    REFUSED = "refused"
    CLOSED = "closed"
    SILENCE = "silence"
    UNREACHABLE = "unreachable"
    """The kernel would not send: no route, or a router's ICMP error. `Answer.data` says which."""


@dataclass(frozen=True)
class Question:
    """What to send. `token`: bytes that are found in no other packet. `patience`: seconds on a laptop."""

    to: str
    port: int
    protocol: str
    source_port: int
    token: bytes
    patience: float = 4.0


@dataclass(frozen=True)
class Answer:
    """What came of it. `address`: the sender's own, as the kernel chose it."""

    result: Result
    data: bytes
    address: str


def questions(seed: str) -> Iterator[tuple[int, bytes]]:
    """Source ports and tokens, each new."""
    for number in itertools.count():
        port = FIRST_PORT + number % (LAST_PORT + 1 - FIRST_PORT)
        yield port, f"<{seed}-{number:06d}>".encode()


def ask(netns: str | Path, question: Question) -> Answer:
    """Ask and wait. A TCP connection ends with a reset, so that it leaves no TIME_WAIT behind."""
    kind = socket.SOCK_STREAM if question.protocol == "TCP" else socket.SOCK_DGRAM
    with closing(open_socket(netns, socket.AF_INET, kind)) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asking.bind(("", question.source_port))
        deadline = time.monotonic() + patience(question.patience)
        try:
            result, data = (_stream if kind == socket.SOCK_STREAM else _datagram)(asking, question, deadline)
        except TimeoutError:
            result, data = Result.SILENCE, b""
        except ConnectionRefusedError:
            result, data = Result.REFUSED, b""
        except ConnectionError:
            result, data = Result.CLOSED, b""
        except OSError as error:
            result, data = Result.UNREACHABLE, str(error.strerror).encode()
        return Answer(result, data, asking.getsockname()[0])


def _stream(asking: socket.socket, question: Question, deadline: float) -> tuple[Result, bytes]:
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _wait_until(asking, deadline)
    asking.connect((question.to, question.port))
    _wait_until(asking, deadline)
    asking.sendall(question.token + b"\n")
    _wait_until(asking, deadline)
    data = asking.recv(65535)
    return (Result.ANSWERED if data else Result.CLOSED), data


def _datagram(asking: socket.socket, question: Question, deadline: float) -> tuple[Result, bytes]:
    asking.connect((question.to, question.port))
    with suppress(PermissionError):  # REJECT in the sender's own OUTPUT chain; its ICMP error is queued
        asking.send(question.token + b"\n")
    _wait_until(asking, deadline)
    return Result.ANSWERED, asking.recv(65535)


def _wait_until(asking: socket.socket, deadline: float) -> None:
    asking.settimeout(max(0.001, deadline - time.monotonic()))
