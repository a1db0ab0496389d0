"""Questions from real sockets in a namespace, and what their sender got to know."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from testbed.kernel.namespaces import inside
from testbed.packets.patience import patience

FIRST_PORT, LAST_PORT = 11000, 29999
"""Source ports: between those that Kubernetes listens on, and node ports and those that the kernel gives out.
Each is used once in a run: no connection tracking entry of an earlier probe decides over a later one."""


KINDS = {
    "TCP": (socket.SOCK_STREAM, 0),
    "UDP": (socket.SOCK_DGRAM, 0),
    "SCTP": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
ERRORS_TOLD = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR and IPV6_RECVERR (linux/in.h, in6.h)."""


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
    """What to send. `token`: bytes that are found in no other packet. `patience`: seconds on a laptop.

    `source`: the address to send from, "" for the kernel's choice. `size`: bytes to send at least.
    """

    to: str
    port: int
    protocol: str
    source_port: int
    token: bytes
    patience: float = 4.0
    source: str = ""
    size: int = 0


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


def ask(netns: str | Path, asked: Sequence[Question]) -> list[Answer]:
    """Ask all at once, wait for each. Connections end with a reset: it leaves no TIME_WAIT."""
    return ask_from([(netns, question) for question in asked])


def ask_from(asked: Sequence[tuple[str | Path, Question]]) -> list[Answer]:
    """As `ask`, each in a network namespace of its own."""
    with ExitStack() as stack:
        asking: list[_Asking] = []
        for netns, questions in itertools.groupby(asked, key=lambda one: one[0]):
            with inside(netns):
                asking += [stack.enter_context(closing(_Asking(question))) for _, question in questions]
        _run(asking)
        return [Answer(one.result or Result.SILENCE, one.data, one.socket.getsockname()[0]) for one in asking]


def _run(asking: Sequence[_Asking]) -> None:
    """Each goes on as soon as its socket is ready, until its end is known or its time is over."""
    with selectors.DefaultSelector() as selector:
        for one in asking:
            one.begin()
            if one.result is None:
                selector.register(one.socket, one.awaited, one)
        while waiting := [key.data for key in selector.get_map().values()]:
            now = time.monotonic()
            for key, _ in selector.select(max(0.0, min(one.deadline for one in waiting) - now)):
                one = key.data
                one.proceed()
                if one.result is not None:
                    selector.unregister(one.socket)
                elif key.events != one.awaited:
                    selector.modify(one.socket, one.awaited, one)
            now = time.monotonic()
            for one in waiting:
                if one.result is None and one.deadline <= now:
                    one.result = Result.SILENCE
                    selector.unregister(one.socket)


class _Asking:
    """One question under way. Its result is None until it is known."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.stream = question.protocol != "UDP"
        family = socket.AF_INET6 if ":" in question.to else socket.AF_INET
        self.socket = socket.socket(family, *KINDS[question.protocol])
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if question.protocol == "SCTP":
            # Else it would tell its peer of IPv4 addresses, too, and of an ICMP error say nothing.
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.socket.setsockopt(*ERRORS_TOLD[family], 1)
        self.socket.bind((question.source, question.source_port))
        self.socket.setblocking(False)
        self.awaited = selectors.EVENT_WRITE if self.stream else selectors.EVENT_READ
        self.deadline = 0.0
        self.result: Result | None = None
        self.data = b""
        self.close = self.socket.close

    def begin(self) -> None:
        """Connect, and send where nothing has to be waited for. From here its time runs."""
        self.deadline = time.monotonic() + patience(self.question.patience)
        with self._ending():
            if self.stream:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            error = self.socket.connect_ex((self.question.to, self.question.port))
            if error not in (0, errno.EINPROGRESS):
                raise OSError(error, os.strerror(error))
            if not self.stream:
                self._send()

    def proceed(self) -> None:
        """The socket is ready: send, or read the answer."""
        with self._ending():
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            if self.awaited == selectors.EVENT_WRITE:
                self._send()
                self.awaited = selectors.EVENT_READ
            else:
                self.data = self.socket.recv(65535)
                self.result = Result.ANSWERED if self.data else Result.CLOSED

    def _send(self) -> None:
        with suppress(PermissionError):  # REJECT in the sender's own OUTPUT chain; its ICMP error is queued
            self.socket.send((self.question.token + b"\n").ljust(self.question.size))

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """An error is the end."""
        try:
            yield
        except BlockingIOError:
            return  # woken for nothing
        except ConnectionRefusedError:
            self.result = Result.REFUSED
        except ConnectionError:
            self.result = Result.CLOSED
        except OSError as error:
            self.result, self.data = Result.UNREACHABLE, str(error.strerror).encode()
