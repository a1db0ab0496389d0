"""Capacity: bursts of connections, requests, bytes and datagrams, and connections that are held."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence

from testbed.bench import tools
from testbed.bench.measures import (
    BULK,
    HELD,
    HELD_MEMORY,
    LOADED,
    LOADED_TAIL,
    NEW_CONNECTIONS,
    REQUESTS,
    UDP_LOSS,
    UDP_RATE,
    Measure,
)
from testbed.bench.plan import Profile
from testbed.bench.prober import REQUEST, Address
from testbed.bench.stage import TOOLS
from testbed.bench.taking import Sample, Seat, Taking
from testbed.errors import TestbedError

TO_HOLD = 1000
ALL = "all"
"""The position of a sample that was taken at several places of the list."""


def _taken(measures: Sequence[Measure], take: Callable[[], Sequence[float]], at: str) -> Iterator[Sample]:
    values: Sequence[float | str]
    try:
        values = take()
    except (TestbedError, subprocess.SubprocessError) as error:
        values = [str(error)] * len(measures)
    for measure, value in zip(measures, values, strict=True):
        yield Sample(measure, at, value)


def connect(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    targets, turn = list(dict.fromkeys(seat.targets.values())), source.randrange(tools.SOURCES)

    def take() -> list[float]:
        return [seat.place.call(tools.new_connections, targets, profile.seconds, turn)]

    yield from _taken((NEW_CONNECTIONS,), take, ALL if len(targets) > 1 else "only")


def request(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    position = source.choice(list(seat.targets))

    def take() -> Sequence[float]:
        return seat.place.call(tools.requests, seat.targets[position], profile.seconds)[:3]

    yield from _taken((REQUESTS, LOADED, LOADED_TAIL), take, position)


def _tools_address(seat: Seat) -> str:
    return seat.stage.cluster_ip(TOOLS) if seat.column else seat.stage.pod_address("tools")


def stream(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    def take() -> Sequence[float]:
        return [seat.place.call(tools.bulk, _tools_address(seat), profile.seconds)]

    yield from _taken((BULK,), take, "only")


def ready_to_echo(seat: Seat, profile: Profile) -> None:
    seat.place.call(tools.ready_to_echo, _tools_address(seat), profile.seconds)


def echo(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    def take() -> Sequence[float]:
        return seat.place.call(tools.datagrams, _tools_address(seat), profile.seconds)

    yield from _taken((UDP_RATE, UDP_LOSS), take, "only")


_KEPT: list[socket.socket] = []
"""The connections that this process holds between `open_all` and `close_all`."""


def open_all(target: Address, count: int) -> int:
    """Open `count` connections and keep them, then ask on each; how many answered."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 256), most))
    for _ in range(count):
        with contextlib.suppress(OSError):
            _KEPT.append(socket.create_connection(target, timeout=10))
    answered = 0
    for connection in _KEPT:
        with contextlib.suppress(OSError):
            connection.sendall(REQUEST)
            answered += connection.recv(64).startswith(b"HTTP/1.1 200")
    return answered


def close_all() -> None:
    while _KEPT:
        _KEPT.pop().close()


def hold(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    position = source.choice(list(seat.targets))
    agent = seat.stage.site.agent
    before = agent(seat.name).rss if seat.column else 0
    try:
        answered = seat.place.call(open_all, seat.targets[position], TO_HOLD)
        yield Sample(HELD, position, answered or "none of them answered")
        if seat.column:
            yield Sample(HELD_MEMORY, position, max(0, agent(seat.name).rss - before) / 2**20)
    finally:
        seat.place.call(close_all)


def _bursts(profile: Profile) -> int:
    return profile.bursts


def _burst(profile: Profile) -> float:
    return profile.seconds + 0.1


def _whole(profile: Profile) -> float:
    """iperf3 and sockperf take whole seconds."""
    return max(1.0, profile.seconds) + 0.2


CONNECT = Taking((NEW_CONNECTIONS,), connect, _bursts, _burst, warm_up=1, quick_translated=True)
REQUEST_ = Taking((REQUESTS, LOADED, LOADED_TAIL), request, _bursts, _burst)
STREAM = Taking((BULK,), stream, _bursts, _whole, paths=False)
ECHO = Taking((UDP_RATE, UDP_LOSS), echo, _bursts, _whole, paths=False, ready=ready_to_echo)
HOLD = Taking((HELD, HELD_MEMORY), hold, lambda profile: 1, lambda profile: 1.0)
