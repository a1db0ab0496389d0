"""What the modules that take samples share: a seat to take them from, and what a visit to it yields."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from testbed.bench.columns import DIRECT, Column
from testbed.bench.measures import Measure
from testbed.bench.place import Place
from testbed.bench.plan import OTHER_NODE, Profile
from testbed.bench.prober import Address
from testbed.bench.stage import Stage


class Sample(NamedTuple):
    """One value in the measure's unit, or why there is none."""

    measure: Measure
    position: str
    value: float | str


@dataclass(frozen=True)
class Seat:
    """One column on one path: the place of its client, and the targets by their position in the list.

    `column` is None for direct. `stretch`: the self-test has the prober take longer by this share.
    """

    column: Column | None
    path: str
    place: Place
    targets: Mapping[str, Address]
    stage: Stage
    stretch: float = 0.0

    @property
    def name(self) -> str:
        return self.column.name if self.column else DIRECT


Visit = Callable[[Seat, Profile, random.Random], Iterator[Sample]]


@dataclass(frozen=True)
class Taking:
    """Measures that one visit to a seat takes together, and how often each seat is visited.

    `cost`: seconds that a visit takes, guessed, for the time left. `warm_up`: rounds whose samples are not
    kept whatever they are, to fill caches; what else is warming up is found in the samples.
    """

    measures: tuple[Measure, ...]
    visit: Visit
    rounds: Callable[[Profile], int]
    cost: Callable[[Profile], float]
    warm_up: int = 0
    paths: bool = True
    """Whether it is taken on all paths, or from one node to another only."""
    quick_sizes: str = "largest"
    """At which sizes the quick profile takes it: "all" or the "largest"."""
    quick_translated: bool = False
    """Whether the quick profile takes it where code is translated, too: starting programs is slow there."""
    ready: Callable[[Seat, Profile], None] = lambda seat, profile: None
    """Called for every seat a round ahead: for what takes its time, but no processor's."""

    def at(self, size: int, sizes: Sequence[int], profile: Profile) -> bool:
        """Whether it is taken at a size of a run."""
        if not profile.quick:
            return True
        large = size == max(sizes) or self.quick_sizes == "all"
        return large and (self.quick_translated or not profile.translated)

    def names(self) -> frozenset[str]:
        return frozenset(measure.name for measure in self.measures)

    def visits(self, seat: Seat) -> bool:
        """Whether there is something to take at this seat."""
        if not self.paths and seat.path != OTHER_NODE:
            return False
        return seat.column is not None or any(not measure.no_direct for measure in self.measures)
