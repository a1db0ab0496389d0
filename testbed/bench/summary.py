"""What the samples say: a row for each cell, and sentences. Pure: numbers in, words out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testbed.bench.measures import DIRECT, FIRST_PACKET, KEEP_ALIVE, MEASURES, POSITIONS, count_of
from testbed.bench.record import Cell, Run
from testbed.bench.statistics import (
    SEED,
    Interval,
    Resampled,
    enough,
    interval,
    median,
    quantile,
    ratio,
    resample,
)

BASE = "iptables"
"""The mode that others are compared to, upstream's default."""

TRANSLATED = (
    "The VM had no hardware virtualisation: QEMU translated its code. Times are far above those of hardware, "
    "and what is cheap and what is dear shifts too: read ratios here, with care, not times."
)
ENVIRONMENTS = {
    "native": "On the running kernel",
    "vm": "In a virtual machine",
}


@dataclass(frozen=True)
class Row:
    """One cell's figures in µs. `p99` is None when there are too few samples for it.

    `to_direct`, `to_base`: ratio of medians in the same run; None where there is nothing to compare to.
    `positions`: median by where in the list the Service stood, in the order of the list.
    """

    services: int
    mode: str
    count: int
    median: Interval
    p99: float | None
    to_direct: Interval | None
    to_base: Interval | None
    positions: Mapping[str, float]
    lost: int = 0


@dataclass(frozen=True)
class Summary:
    """A run with its rows, by measure."""

    run: Run
    rows: Mapping[str, tuple[Row, ...]]

    def row(self, measure: str, services: int, mode: str) -> Row | None:
        rows = self.rows.get(measure, ())
        return next((row for row in rows if (row.services, row.mode) == (services, mode)), None)

    @property
    def title(self) -> str:
        facts = self.run.facts
        name = ENVIRONMENTS.get(self.run.environment, self.run.environment)
        engine = facts.get("engine", "")
        return f"{name} ({', '.join(part for part in (engine, facts.get('kernel', '')) if part)})"


def summarise(run: Run) -> Summary:
    """All rows of a run, in order of measure, size and mode."""
    drawn = {cell.key: resample(cell.samples, cell.blocks) for cell in run.cells}
    order = [m for m in MEASURES if m in run.measures] + [m for m in run.measures if m not in MEASURES]
    rows = {}
    for measure in order:
        cells = [c for c in run.cells if c.measure == measure]
        cells.sort(key=lambda c: (c.services, run.modes.index(c.mode)))
        rows[measure] = tuple(_row(cell, drawn) for cell in cells)
    return Summary(run, rows)


def _row(cell: Cell, drawn: Mapping[tuple[str, str, int, str], Resampled]) -> Row:
    def against(mode: str) -> Interval | None:
        base = drawn.get((*cell.key[:3], mode))
        return ratio(drawn[cell.key], base) if base and mode != cell.mode else None

    positions = {name: median(cell.at(name).samples) for name in POSITIONS if name in cell.positions}
    return Row(
        cell.services,
        cell.mode,
        len(cell.samples),
        interval(drawn[cell.key]),
        quantile(cell.samples, 0.99) if enough(len(cell.samples), 0.99) else None,
        against(DIRECT),
        against(BASE) if cell.mode != DIRECT else None,
        positions,
        cell.lost,
    )


def micros(value: float) -> str:
    """Three significant digits, and never fewer than all whole µs: `9.87`, `98.7`, `1,234`."""
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def times(of: Interval) -> str:
    """`1.42× (1.39–1.46)`."""
    return f"{of.estimate:.2f}× ({of.low:.2f}–{of.high:.2f})"


def sentences(summary: Summary) -> list[str]:
    """What a reader in a hurry should know, computed from the run. None of it is said without data."""
    said = []
    sizes, modes = summary.run.sizes, [mode for mode in summary.run.modes if mode != DIRECT]
    if not sizes:
        return []
    for measure in summary.rows:
        if measure in (FIRST_PACKET.name, KEEP_ALIVE.name):
            said.append(_at_size(summary, measure, sizes[-1], modes))
    if len(sizes) > 1:
        said.append(_growth(summary, FIRST_PACKET.name, sizes, modes))
        said.append(_drift(summary, sizes))
    said.append(_lost(summary))
    if "TCG" in summary.run.facts.get("engine", ""):
        said.append(TRANSLATED)
    return [sentence for sentence in said if sentence]


def _at_size(summary: Summary, measure: str, size: int, modes: list[str]) -> str:
    """Medians of all modes at one size, cheapest first."""
    rows = [row for mode in modes if (row := summary.row(measure, size, mode))]
    direct = summary.row(measure, size, DIRECT)
    rows.sort(key=lambda row: row.median.estimate)
    parts = [f"{row.mode} {micros(row.median.estimate)} µs" for row in rows]
    base = f" (Pod to Pod without a Service: {micros(direct.median.estimate)} µs)" if direct else ""
    return f"{MEASURES[measure].title}, median at {count_of(size)}: {', '.join(parts)}{base}."


def _growth(summary: Summary, measure: str, sizes: tuple[int, ...], modes: list[str]) -> str:
    """How the first packet of the last Service in the list grew from the smallest to the largest size."""
    parts = []
    for mode in modes:
        small = summary.run.cell(measure, sizes[0], mode)
        large = summary.run.cell(measure, sizes[-1], mode)
        if not small or not large or POSITIONS[-1] not in large.positions:
            continue
        last = large.at(POSITIONS[-1])
        grown = ratio(
            resample(last.samples, last.blocks), resample(small.samples, small.blocks, seed=SEED + 1)
        )
        verdict = "no difference shown" if 1.0 in grown else times(grown)
        parts.append(f"{mode} {verdict}")
    if not parts:
        return ""
    return (
        f"From {count_of(sizes[0])} to {count_of(sizes[-1])}, the first packet to the last of the list: "
        f"{', '.join(parts)}."
    )


def _lost(summary: Summary) -> str:
    """Probes without an answer: they are in no median, and a reader must know."""
    found = [
        f"{row.mode} {row.lost} of {row.lost + row.count} "
        f"({MEASURES[measure].title}, {count_of(row.services)})"
        for measure, rows in summary.rows.items()
        for row in rows
        if row.lost
    ]
    return f"Probes without an answer, in no figure: {', '.join(found)}." if found else ""


def _drift(summary: Summary, sizes: tuple[int, ...]) -> str:
    """What the machine itself changed by: direct traffic knows nothing of the number of Services."""
    direct = [row for size in sizes if (row := summary.row(FIRST_PACKET.name, size, DIRECT))]
    if len(direct) < 2:
        return ""
    medians = [row.median.estimate for row in direct]
    return (
        f"Noise: direct traffic, which no Service touches, moved by {max(medians) / min(medians) - 1:.0%} "
        "between sizes; believe no smaller difference between sizes. Modes were sampled in turn at each "
        "size, so ratios between them are safer than times."
    )
