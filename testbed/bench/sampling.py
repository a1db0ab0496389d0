"""Sampling: rounds over all seats in random order, so that what the machine does hits all alike."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from testbed.bench.measures import MEASURES, POSITIONS, count_of
from testbed.bench.plan import Profile
from testbed.bench.record import Cell
from testbed.bench.statistics import median, warm_up
from testbed.bench.taking import Sample, Seat, Taking
from testbed.errors import TestbedError

T = TypeVar("T")

MOST_LOST = 0.05
"""Share of probes without an answer above which there is no point in a figure."""


@dataclass
class Samples:
    """Of one cell, while they are taken."""

    lost: int = 0
    why: str = ""
    values: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)

    def add(self, sample: Sample, block: int) -> None:
        if isinstance(sample.value, str):
            self.lost += 1
            self.why = sample.value
            return
        self.values.append(float(f"{sample.value:.9g}"))
        self.blocks.append(block)
        self.positions.append(sample.position)

    def since(self, block: int) -> Samples:
        """Without the rounds before `block`."""
        keep = [i for i, own in enumerate(self.blocks) if own >= block]
        return Samples(
            self.lost,
            self.why,
            [self.values[i] for i in keep],
            [self.blocks[i] for i in keep],
            [self.positions[i] for i in keep],
        )


@dataclass(frozen=True)
class Point:
    """Where on the axes samples are taken."""

    environment: str
    services: int
    endpoints: int


def spread(services: int) -> dict[str, int]:
    """Position → index of the Services that are probed, spread over a list of `services`."""
    if services < len(POSITIONS):
        return {"only": 0} if services == 1 else {"first": 0, "last": 1}
    return dict(zip(POSITIONS, (0, services // 2, services - 1), strict=True))


def rounds(count: int, seats: Sequence[T], source: random.Random) -> Iterator[list[T]]:
    """`count` random orders of the seats."""
    for _ in range(count):
        order = list(seats)
        source.shuffle(order)
        yield order


def sample(
    point: Point,
    taking: Taking,
    seats: Sequence[Seat],
    profile: Profile,
    seed: int,
    after_round: Callable[[], None] = lambda: None,
    lost: Callable[[str], None] = lambda _: None,
) -> list[Cell]:
    """The cells that a taking gives at a point. What was warm-up is found and thrown away."""
    source = random.Random(f"{seed} {point.services} {point.endpoints} {sorted(taking.names())}")
    taken: dict[tuple[str, str, str], Samples] = defaultdict(Samples)
    able = [seat for seat in seats if taking.visits(seat)]
    orders = rounds(taking.rounds(profile) + taking.warm_up, able, source)
    for block, (order, following) in enumerate(pairwise([[], *orders, []]), start=-taking.warm_up - 1):
        for seat in following:
            taking.ready(seat, profile)
        for seat in order:
            for one in taking.visit(seat, profile, source):
                if block >= 0:
                    taken[one.measure.name, seat.path, seat.name].add(one, block)
                if isinstance(one.value, str):
                    lost(f"{seat.name}, {count_of(point.services)}, {one.measure.title}: {one.value}")
        if order:
            after_round()
    warm = found_warm_up(list(taken.values()))
    return [
        cell(point, *key, samples.since(warm))
        for key, samples in sorted(taken.items(), key=lambda item: _order(item[0], taking, able))
    ]


def _order(key: tuple[str, str, str], taking: Taking, seats: Sequence[Seat]) -> tuple[int, int]:
    names = [measure.name for measure in taking.measures]
    places = [(seat.path, seat.name) for seat in seats]
    return names.index(key[0]), places.index(key[1:])


def found_warm_up(samples: Sequence[Samples]) -> int:
    """The first round that belongs to the steady state of all: by the mean of their rounds' medians."""
    series: dict[int, list[float]] = defaultdict(list)
    for own in samples:
        if not own.values or not (middle := median(own.values)):
            continue
        by_block: dict[int, list[float]] = defaultdict(list)
        for value, block in zip(own.values, own.blocks, strict=True):
            by_block[block].append(value)
        for block, values in by_block.items():
            series[block].append(median(values) / middle)
    blocks = sorted(series)
    start = warm_up([sum(series[block]) / len(series[block]) for block in blocks])
    return blocks[start] if blocks else 0


def cell(point: Point, measure: str, path: str, column: str, samples: Samples) -> Cell:
    """The cell that samples make. Raises TestbedError when too many were lost."""
    tried = samples.lost + len(samples.values)
    if samples.lost > MOST_LOST * tried:
        raise TestbedError(
            f"{column}, {count_of(point.services)}, {MEASURES[measure].title}: {samples.lost} of {tried} "
            f"tries failed; that is a fault, not a figure: {samples.why}"
        )
    return Cell(
        point.environment,
        measure,
        point.services,
        column,
        tuple(samples.values),
        tuple(samples.blocks),
        tuple(samples.positions),
        samples.lost,
        point.endpoints,
        path,
    )
