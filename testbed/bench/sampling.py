"""Sampling: rounds over all columns in random order, so that what the machine does hits all alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from testbed.bench.measures import (
    ANSWERED_BY_PROXY,
    FIRST_BYTE,
    FIRST_PACKET,
    KEEP_ALIVE,
    MEASURES,
    POSITIONS,
    Plan,
    count_of,
)
from testbed.bench.prober import Address, ProbeError
from testbed.bench.record import Cell
from testbed.errors import TestbedError

MOST_LOST = 0.05
"""Share of probes without an answer above which there is no point in a latency."""


class Prober(Protocol):
    """The two things that are timed, done from one client. Both give µs, see `testbed.bench.prober`."""

    def new_connections(self, targets: list[Address]) -> list[tuple[float, float] | str]: ...

    def open_connection(self, target: Address, requests: int) -> list[float]: ...


@dataclass(frozen=True)
class Column:
    """One mode: where its client probes from, and the targets by their position in the list of Services."""

    mode: str
    prober: Prober
    targets: Mapping[str, Address]


@dataclass
class _Samples:
    lost: int = 0
    values: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)

    def add(self, value: float | str, block: int, position: str) -> None:
        if isinstance(value, str):
            self.lost += 1
            return
        self.values.append(round(value, 3))
        self.blocks.append(block)
        self.positions.append(position)


def spread(services: int) -> dict[str, int]:
    """Position → index of the Services that are probed, spread over a list of `services`."""
    if services < len(POSITIONS):
        return {"only": 0} if services == 1 else {"first": 0, "last": 1}
    return dict(zip(POSITIONS, (0, services // 2, services - 1), strict=True))


def rounds(count: int, columns: Sequence[Column], source: random.Random) -> Iterator[list[Column]]:
    """`count` random orders of the columns."""
    for _ in range(count):
        order = list(columns)
        source.shuffle(order)
        yield order


def sample(
    environment: str,
    services: int,
    columns: Sequence[Column],
    plan: Plan,
    after_round: Callable[[], None] = lambda: None,
    lost: Callable[[str], None] = lambda _: None,
) -> list[Cell]:
    """All cells for one number of Services. A first round is thrown away (caches, ARP)."""
    source = random.Random(plan.seed * 1_000_003 + services)
    taken: dict[tuple[str, str], _Samples] = {}
    for block, order in enumerate(rounds(plan.blocks + 1, columns, source), start=-1):
        for column in order:
            for measure, position, value in _probe(column, plan.samples, source):
                if block >= 0:
                    taken.setdefault((measure, column.mode), _Samples()).add(value, block, position)
                if isinstance(value, str):
                    lost(f"{column.mode}, {count_of(services)}, {MEASURES[measure].title}: {value}")
        after_round()
    cells = []
    for kind in (FIRST_PACKET, FIRST_BYTE, KEEP_ALIVE):
        for column in columns:
            own = taken[kind.name, column.mode]
            tried = own.lost + len(own.values)
            if own.lost > MOST_LOST * tried:
                raise TestbedError(
                    f"{column.mode}, {count_of(services)}: {own.lost} of {tried} probes got no answer; "
                    "that is a fault, not a latency"
                )
            cells.append(
                Cell(
                    environment,
                    kind.name,
                    services,
                    column.mode,
                    tuple(own.values),
                    tuple(own.blocks),
                    tuple(own.positions),
                    own.lost,
                )
            )
    return cells


def _probe(column: Column, count: int, source: random.Random) -> Iterator[tuple[str, str, float | str]]:
    """(measure, position, µs or why there are none) of `count` new connections, spread over the targets in
    random order, and of `count` requests on open ones."""
    names = list(column.targets)
    positions = [names[i % len(names)] for i in range(count)]
    source.shuffle(positions)
    samples = column.prober.new_connections([column.targets[position] for position in positions])
    for position, timed in zip(positions, samples, strict=True):
        if isinstance(timed, str):
            yield FIRST_PACKET.name, position, timed
            yield FIRST_BYTE.name, position, timed
            continue
        connect, first_byte = timed
        answered = first_byte if column.mode in ANSWERED_BY_PROXY else connect
        yield FIRST_PACKET.name, position, answered
        yield FIRST_BYTE.name, position, first_byte
    for position in names:
        asked = positions.count(position)
        values: Sequence[float | str]
        try:
            values = column.prober.open_connection(column.targets[position], asked)
        except ProbeError as error:
            values = [str(error)] * asked
        for value in values:
            yield KEEP_ALIVE.name, position, value
