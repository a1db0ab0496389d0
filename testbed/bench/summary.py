"""What the samples say: a row for each cell. Pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.bench.columns import DIRECT
from testbed.bench.measures import MEASURES, POSITIONS
from testbed.bench.plan import OTHER_NODE
from testbed.bench.record import Cell, Key, Run
from testbed.bench.statistics import (
    Change,
    Interval,
    Resampled,
    change_point,
    enough,
    interval,
    median,
    outliers,
    quantile,
    ratio,
    resample,
)
from testbed.bench.units import INSTRUCTIONS

BASES = ("iptables", "iptables-nft", "iptables-legacy")
"""The mode that others are compared to, upstream's default: the first of these that was measured."""

PERCENTILES = (0.01, 0.5, 0.9, 0.99, 0.999)
ENVIRONMENTS = {
    "native": "On the running kernel",
    "vm": "In a virtual machine",
    "fleet": "On machines of their own",
    INSTRUCTIONS: "Under the instruction clock",
}
FEWEST_ROUNDS = 3
"""Rounds that an interval needs: fewer do not say how they differ."""


@dataclass(frozen=True)
class Row:
    """One cell's figures, in its measure's unit.

    `percentiles`: q → value, without those that there are too few samples for. `to_direct`, `to_base`: ratio
    of medians in the same run; None where there is nothing to compare to. `positions`: median by where in the
    list the Service stood, in the order of the list. `change`: where in the rounds the level changed.
    """

    services: int
    mode: str
    count: int
    median: Interval
    percentiles: Mapping[float, float]
    to_direct: Interval | None
    to_base: Interval | None
    positions: Mapping[str, float]
    lost: int = 0
    endpoints: int = 1
    path: str = OTHER_NODE
    outliers: int = 0
    change: Change | None = None
    rounds: int = 0

    @property
    def p99(self) -> float | None:
        return self.percentiles.get(0.99)

    @property
    def bounded(self) -> bool:
        """Whether its intervals say something."""
        return self.rounds >= FEWEST_ROUNDS


@dataclass(frozen=True)
class Summary:
    """A run with its rows, by measure."""

    run: Run
    rows: Mapping[str, tuple[Row, ...]]
    base: str = field(default="")

    def row(
        self, measure: str, services: int, mode: str, endpoints: int = 1, path: str = OTHER_NODE
    ) -> Row | None:
        wanted = (services, mode, endpoints, path)
        rows = self.rows.get(measure, ())
        return next((r for r in rows if (r.services, r.mode, r.endpoints, r.path) == wanted), None)

    @property
    def title(self) -> str:
        facts = self.run.facts
        name = ENVIRONMENTS.get(self.run.environment, self.run.environment)
        engine = facts.get("engine", "")
        return f"{name} ({', '.join(part for part in (engine, facts.get('kernel', '')) if part)})"

    @property
    def endpoints(self) -> tuple[int, ...]:
        return tuple(sorted({cell.endpoints for cell in self.run.cells}))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.path for cell in self.run.cells))


def summarise(run: Run) -> Summary:
    """All rows of a run, in order of measure, size, endpoints, path and column."""
    drawn = {cell.key: resample(cell.samples, cell.blocks) for cell in run.cells}
    base = next((name for name in BASES if name in run.modes), "")
    rows = {}
    for measure in (m for m in MEASURES if m in run.measures):
        cells = [c for c in run.cells if c.measure == measure]
        paths = list(dict.fromkeys(c.path for c in cells))
        cells.sort(key=lambda c: (c.services, c.endpoints, paths.index(c.path), run.modes.index(c.mode)))
        rows[measure] = tuple(_row(cell, drawn, base) for cell in cells)
    return Summary(run, rows, base)


def _row(cell: Cell, drawn: Mapping[Key, Resampled], base: str) -> Row:
    own = drawn[cell.key]

    def against(mode: str) -> Interval | None:
        other = drawn.get(cell.beside(mode))
        return ratio(own, other) if other and mode != cell.mode and other.positive else None

    positions = {name: median(cell.at(name).samples) for name in POSITIONS if name in cell.positions}
    return Row(
        cell.services,
        cell.mode,
        len(cell.samples),
        interval(own),
        {q: quantile(cell.samples, q) for q in PERCENTILES if enough(len(cell.samples), q)},
        against(DIRECT),
        against(base) if cell.mode != DIRECT else None,
        positions,
        cell.lost,
        cell.endpoints,
        cell.path,
        outliers(cell.samples),
        change_point(by_round(cell)),
        len(set(cell.blocks)),
    )


def by_round(cell: Cell) -> list[float]:
    """The median of each round, in the order of the rounds."""
    found: dict[int, list[float]] = {}
    for value, block in zip(cell.samples, cell.blocks, strict=True):
        found.setdefault(block, []).append(value)
    return [median(found[block]) for block in sorted(found)]


def times(of: Interval, bounded: bool = True) -> str:
    """`1.42× (1.39–1.46)`."""
    bounds = f" ({of.low:.2f}–{of.high:.2f})" if bounded else ""
    return f"{of.estimate:.2f}×{bounds}"
