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
from testbed.bench.units import INSTRUCTIONS, unit

BASE = "iptables"
"""The mode that others are compared to, upstream's default."""

TRANSLATED = (
    "The VM had no hardware virtualisation: QEMU translated its code. Times are far above those of hardware, "
    "and what is cheap and what is dear shifts too: read ratios here, with care, not times."
)
COUNTED = (
    "Figures are instructions of one emulated CPU, not times: each counts as one, whether it hits a cache or "
    "waits for memory. They repeat, on whatever machine and however busy; how long hardware takes they do "
    "not tell."
)
ENVIRONMENTS = {
    "native": "On the running kernel",
    "vm": "In a virtual machine",
    INSTRUCTIONS: "Under the instruction clock",
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
        said.append(_slopes(summary, sizes, modes))
        said.append(_drift(summary, sizes))
    said.append(_lost(summary))
    if summary.run.environment == INSTRUCTIONS:
        said.append(COUNTED)
    elif "TCG" in summary.run.facts.get("engine", ""):
        said.append(TRANSLATED)
    return [sentence for sentence in said if sentence]


def _at_size(summary: Summary, measure: str, size: int, modes: list[str]) -> str:
    """Medians of all modes at one size, cheapest first."""
    rows = [row for mode in modes if (row := summary.row(measure, size, mode))]
    direct = summary.row(measure, size, DIRECT)
    rows.sort(key=lambda row: row.median.estimate)
    of = unit(summary.run.environment)
    parts = [f"{row.mode} {of.shown(row.median.estimate)} {of.name}" for row in rows]
    base = f" (Pod to Pod without a Service: {of.shown(direct.median.estimate)} {of.name})" if direct else ""
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


def slope(summary: Summary, mode: str, small: int, large: int) -> float | None:
    """Instructions that the first packet takes more for each Service more, by the medians at two sizes."""
    rows = [summary.row(FIRST_PACKET.name, size, mode) for size in (small, large)]
    if rows[0] is None or rows[1] is None or large <= small:
        return None
    return (rows[1].median.estimate - rows[0].median.estimate) * 1e3 / (large - small)


def _slopes(summary: Summary, sizes: tuple[int, ...], modes: list[str]) -> str:
    """What a Service more costs. Only where figures are exact enough to divide by 10,000."""
    if summary.run.environment != INSTRUCTIONS:
        return ""
    slopes = {mode: slope(summary, mode, sizes[0], sizes[-1]) for mode in modes}
    parts = [f"{mode} {round(each, 2) + 0.0:.2f}" for mode, each in slopes.items() if each is not None]
    return (
        f"Instructions for each Service more, from {count_of(sizes[0])} to {count_of(sizes[-1])}: "
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
    moved = max(medians) / min(medians) - 1
    shown = f"{moved:.2%}" if summary.run.environment == INSTRUCTIONS else f"{moved:.0%}"
    return (
        f"Noise: direct traffic, which no Service touches, moved by {shown} "
        "between sizes; believe no smaller difference between sizes. Modes were sampled in turn at each "
        "size, so ratios between them are safer than times."
    )
