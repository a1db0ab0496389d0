"""The prober: one connection or request at a time, timed in user space. It runs inside a Pod's namespace.

Lean on purpose: blocking sockets, raw addresses, no name look-up, the collector off, and a reset instead of
an orderly close (SO_LINGER 0), so that no port waits in TIME_WAIT and no close runs into the next sample.
Times are in µs. What the prober itself costs is measured by `overhead` and stands in every report.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import struct
from collections.abc import Iterator, Sequence
from time import perf_counter_ns

from testbed.errors import TestbedError

Address = tuple[str, int]

Visited = tuple[list[tuple[float, float] | str], dict[Address, list[float] | str]]
"""What `new_connections` timed, and `open_connection` by target; or why it did not."""

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TIMEOUT = struct.pack("ll", 5, 0)
"""Seconds and µs after which a blocked call fails; the kernel's own, so that a call is one system call."""


class ProbeError(TestbedError):
    """No answer, or one that was none: the connection ended, or the backend said something else than 200."""


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEOUT)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
    return made


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _told(target: Address) -> Iterator[None]:
    """An error of the system is told with the target it came from."""
    try:
        yield
    except OSError as error:
        raise ProbeError(f"{target[0]}:{target[1]}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    # What a blocking call says when SO_SNDTIMEO or SO_RCVTIMEO has passed (socket(7)).
    if error.errno in (errno.EINPROGRESS, errno.EAGAIN):
        return "no answer in 5 s"
    return error.strerror or str(error)


def _stretched(start: int, end: int, stretch: float) -> int:
    """The self-test's handicap: `end`, or what the clock says once `stretch` of the time has passed again."""
    if stretch:
        wanted = end + (end - start) * stretch
        while (end := perf_counter_ns()) < wanted:
            pass
    return end


def new_connections(targets: list[Address], stretch: float = 0.0) -> list[tuple[float, float] | str]:
    """One new connection to each target in turn: (connect, first byte) µs, both from just before connect(2).

    The request is sent as soon as connect(2) returns. Instead of a sample that failed stands why, in words.
    `stretch`: share of its time by which the prober itself makes a sample longer.
    """
    samples: list[tuple[float, float] | str] = []
    with _undisturbed():
        for target in targets:
            connection = _socket()
            try:
                start = perf_counter_ns()
                connection.connect(target)
                connected = _stretched(start, perf_counter_ns(), stretch)
                connection.send(REQUEST)
                answer = connection.recv(4096)
                first_byte = _stretched(connected, perf_counter_ns(), stretch)
            except OSError as error:
                samples.append(f"{target[0]}:{target[1]}: {_reason(error)}")
                continue
            finally:
                connection.close()
            if answer.startswith(b"HTTP/1.1 200"):
                samples.append(((connected - start) / 1e3, (first_byte - start) / 1e3))
            else:
                samples.append(f"{target[0]}:{target[1]} answered {answer[:60]!r}")
    return samples


def open_connection(target: Address, requests: int, stretch: float = 0.0, warm_up: int = 2) -> list[float]:
    """`requests` requests on one open connection: µs from send(2) to the last byte of the answer, each."""
    samples = []
    connection = _socket()
    with contextlib.closing(connection), _undisturbed(), _told(target):
        connection.connect(target)
        length = _answer_length(connection, target)
        for _ in range(warm_up + requests):
            start = perf_counter_ns()
            connection.send(REQUEST)
            got = len(connection.recv(8192))
            while 0 < got < length:
                more = len(connection.recv(8192))
                got = got + more if more else 0
            end = _stretched(start, perf_counter_ns(), stretch)
            if got != length:
                raise ProbeError(f"{target[0]}:{target[1]} closed an open connection or changed its answer")
            samples.append((end - start) / 1e3)
    return samples[warm_up:]


def _answer_length(connection: socket.socket, target: Address) -> int:
    """Bytes of a whole answer, learned from a first request; every later one is the same page."""
    connection.send(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(8192)
        if not part:
            raise ProbeError(f"{target[0]}:{target[1]} closed the connection")
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if not head.startswith(b"HTTP/1.1 200") or b"content-length" not in fields:
        raise ProbeError(f"{target[0]}:{target[1]} answered {head[:60]!r}")
    length = len(head) + 4 + int(fields[b"content-length"])
    missing = length - len(head) - 4 - len(body)
    while missing > 0:
        missing -= len(connection.recv(8192)) or missing
    return length


def by_turns(visits: Sequence[list[Address]]) -> list[Visited]:
    """One visit after the other, in one call: while samples are taken nothing else comes and goes.

    A visit is new connections to its targets in turn, then on an open one to each as many requests as it was
    named.
    """
    return [(new_connections(targets), _on_open_ones(targets)) for targets in visits]


def _on_open_ones(targets: list[Address]) -> dict[Address, list[float] | str]:
    found: dict[Address, list[float] | str] = {}
    for target in dict.fromkeys(targets):
        try:
            found[target] = open_connection(target, targets.count(target))
        except ProbeError as error:
            found[target] = str(error)
    return found


def overhead(count: int) -> dict[str, list[float]]:
    """What the prober costs without a network, `count` samples (µs) each.

    `clock`: two readings of the clock, one after the other. `loopback`: connect(2) to a listening socket in
    the same namespace, over lo; the kernel answers the handshake, no other process runs.
    """
    clock, loopback = [], []
    with contextlib.closing(socket.socket()) as listener, _undisturbed():
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        for _ in range(count):
            start = perf_counter_ns()
            end = perf_counter_ns()
            clock.append((end - start) / 1e3)
            connection = _socket()
            start = perf_counter_ns()
            connection.connect(address)
            end = perf_counter_ns()
            connection.close()
            listener.accept()[0].close()
            loopback.append((end - start) / 1e3)
    return {"clock": clock, "loopback": loopback}
