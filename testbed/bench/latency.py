"""Latencies of single packets and requests, taken by `testbed.bench.prober` in the client."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice

from testbed.bench import prober
from testbed.bench.columns import Column
from testbed.bench.measures import FIRST_BYTE, FIRST_PACKET, KEEP_ALIVE
from testbed.bench.plan import Profile
from testbed.bench.prober import ProbeError
from testbed.bench.taking import Sample, Seat, Taking


def visit(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    """New connections, spread over the targets in random order, and as many requests on open ones."""
    positions = spread_over(seat.targets, profile.samples, source)
    targets = [seat.targets[position] for position in positions]
    timed = seat.place.call(prober.new_connections, targets, seat.stretch)
    yield from connected(seat.column, positions, timed)
    for position in seat.targets:
        asked = positions.count(position)
        values: Sequence[float] | str
        try:
            values = seat.place.call(prober.open_connection, seat.targets[position], asked, seat.stretch)
        except ProbeError as error:
            values = str(error)
        yield from requested(position, values, asked)


def spread_over(names: Iterable[str], samples: int, source: random.Random) -> list[str]:
    """So many positions, each as often as the others, in random order."""
    positions = list(islice(cycle(names), samples))
    source.shuffle(positions)
    return positions


def connected(
    column: Column | None, positions: Sequence[str], timed: Sequence[tuple[float, float] | str]
) -> Iterator[Sample]:
    """What `prober.new_connections` timed, as samples. `column`: None for direct."""
    answers_itself = column is not None and column.answers_itself
    for position, one in zip(positions, timed, strict=True):
        if isinstance(one, str):
            yield Sample(FIRST_PACKET, position, one)
            yield Sample(FIRST_BYTE, position, one)
            continue
        connect, first_byte = one
        yield Sample(FIRST_PACKET, position, first_byte if answers_itself else connect)
        yield Sample(FIRST_BYTE, position, first_byte)


def requested(position: str, values: Sequence[float] | str, asked: int) -> Iterator[Sample]:
    """What `prober.open_connection` timed, as samples; or why all that were asked for are lost."""
    several = [values] * asked if isinstance(values, str) else values
    yield from (Sample(KEEP_ALIVE, position, value) for value in several)


LATENCY = Taking(
    (FIRST_PACKET, FIRST_BYTE, KEEP_ALIVE),
    visit,
    rounds=lambda profile: profile.rounds,
    cost=lambda profile: 0.0006 * profile.samples,
    warm_up=1,
    quick_sizes="all",
    quick_translated=True,
)
