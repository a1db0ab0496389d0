"""Latencies of single packets and requests, taken by `testbed.bench.prober` in the client."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from testbed.bench import prober
from testbed.bench.measures import FIRST_BYTE, FIRST_PACKET, KEEP_ALIVE
from testbed.bench.plan import Profile
from testbed.bench.prober import ProbeError
from testbed.bench.taking import Sample, Seat, Taking


def visit(seat: Seat, profile: Profile, source: random.Random) -> Iterator[Sample]:
    """New connections, spread over the targets in random order, and as many requests on open ones."""
    names = list(seat.targets)
    positions = [names[i % len(names)] for i in range(profile.samples)]
    source.shuffle(positions)
    targets = [seat.targets[position] for position in positions]
    samples = seat.place.call(prober.new_connections, targets, seat.stretch)
    answers_itself = seat.column is not None and seat.column.answers_itself
    for position, timed in zip(positions, samples, strict=True):
        if isinstance(timed, str):
            yield Sample(FIRST_PACKET, position, timed)
            yield Sample(FIRST_BYTE, position, timed)
            continue
        connect, first_byte = timed
        yield Sample(FIRST_PACKET, position, first_byte if answers_itself else connect)
        yield Sample(FIRST_BYTE, position, first_byte)
    for position in names:
        asked = positions.count(position)
        values: Sequence[float | str]
        try:
            values = seat.place.call(prober.open_connection, seat.targets[position], asked, seat.stretch)
        except ProbeError as error:
            values = [str(error)] * asked
        yield from (Sample(KEEP_ALIVE, position, value) for value in values)


LATENCY = Taking(
    (FIRST_PACKET, FIRST_BYTE, KEEP_ALIVE),
    visit,
    rounds=lambda profile: profile.rounds,
    cost=lambda profile: 0.0006 * profile.samples,
    warm_up=1,
    quick_sizes="all",
    quick_translated=True,
)
