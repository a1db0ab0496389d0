"""Both ends of connections in one process, for the instruction clock: what lies between them is the network.

It holds the backends' listening sockets and opens the clients', each made inside its own namespace. So no
scheduler, no wake-up and no other program stands in a sample, but the proxy's where that is a program.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from testbed.bench import scene
from testbed.bench.prober import RESET_ON_CLOSE
from testbed.kernel.namespaces import enter

PATIENCE = struct.pack("ll", 20, 0)
"""SO_RCVTIMEO, struct timeval: after 20 s nothing comes any more. Costs no system call."""
REQUEST, ANSWER = b"?", b"!"
FIRST_PORT = 20000
WARM_UP = 5
"""Connections before the first round: code pages, caches of routes, the interpreter's own."""
REST = 0.002
"""Seconds in which a proxy that is a program ends what a connection has left it to do."""

Taken = list[list[tuple[int, int]]]
"""For each column its (round, instructions)."""


@dataclass(frozen=True)
class Way:
    """From a row's client to its backend. `proxy`: the pid of a program in between that is held, or 0."""

    row: int
    target: tuple[str, int]
    listener: socket.socket
    proxy: int = 0


def probe(
    columns: Sequence[Mapping[str, Any]], proxies: Mapping[int, int], task: Mapping[str, Any]
) -> tuple[Taken, Taken]:
    """First packets and first bytes of each column, in rounds that visit all columns in random order.

    `proxies`: by row, those that are programs. They answer a SYN themselves, so they have first bytes only.
    """
    ways = [
        Way(row, (column["target"], task["port"]), _listener(row, task["port"]), proxies.get(row, 0))
        for row, column in enumerate(columns)
    ]
    packets: Taken = [[] for _ in ways]
    answers: Taken = [[] for _ in ways]
    ports = [FIRST_PORT] * len(ways)
    source = random.Random(task["seed"])
    gc.collect()
    gc.disable()
    for block in range(-1, task["rounds"]):
        for way in source.sample(ways, len(ways)):
            enter(scene.namespace("client", way.row))
            _let_run(way, True)
            count = task["samples"] if block >= 0 else WARM_UP
            for take, taken in ((connect, packets), (answer, answers)):
                if take is connect and way.proxy:
                    continue
                found = [take(way, ports[way.row] + number) for number in range(count)]
                ports[way.row] += count
                if block >= 0:
                    taken[way.row] += [(block, one) for one in found]
            _let_run(way, False)
    return packets, answers


def _listener(row: int, port: int) -> socket.socket:
    enter(scene.namespace("backend", row))
    listener = socket.create_server((scene.BACKEND, port), backlog=64)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
    return listener


def _let_run(way: Way, runs: bool) -> None:
    """Hold the proxy, or let it run, and have behind it what it has missed."""
    if way.proxy:
        os.kill(way.proxy, signal.SIGCONT if runs else signal.SIGSTOP)
        time.sleep(REST)


def connect(way: Way, port: int) -> int:
    """Nanoseconds, that is instructions, of connect(2): SYN out to SYN-ACK in. The port is chosen before."""
    connection = _client(port)
    start = perf_counter_ns()
    connection.connect(way.target)
    end = perf_counter_ns()
    accepted, _ = way.listener.accept()
    connection.close()
    accepted.close()
    return end - start


def answer(way: Way, port: int) -> int:
    """From connect(2) over a request to the first byte of the answer; what the backend does is in it."""
    connection = _client(port)
    start = perf_counter_ns()
    connection.connect(way.target)
    connection.sendall(REQUEST)
    accepted, _ = way.listener.accept()
    accepted.recv(len(REQUEST))
    accepted.sendall(ANSWER)
    got = connection.recv(len(ANSWER))
    end = perf_counter_ns()
    connection.close()
    accepted.close()
    if way.proxy:
        time.sleep(REST)
    if got != ANSWER:
        raise ConnectionError(f"{way.target[0]} ended a connection without an answer")
    return end - start


def _client(port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, PATIENCE)
    connection.bind((scene.CLIENT, port))
    return connection
