"""What a reader in a hurry should know, in sentences computed from a run. None of it is said without data."""

from __future__ import annotations

from testbed.bench.columns import DIRECT
from testbed.bench.environments import FLEET
from testbed.bench.measures import (
    FIRST_PACKET,
    KEEP_ALIVE,
    MEASURES,
    NEW_CONNECTIONS,
    POSITIONS,
    PROGRAMMING,
    SYNC_FULL,
    count_of,
)
from testbed.bench.statistics import SEED, ratio, resample
from testbed.bench.summary import Row, Summary, times
from testbed.bench.units import INSTRUCTIONS, unit

TRANSLATED = (
    "There was no hardware virtualisation: QEMU translated the code. Times are far above those of hardware, "
    "and what is cheap and what is dear shifts too: read ratios here, with care, not times."
)
COUNTED = (
    "Figures are instructions of one emulated CPU, not times: each counts as one, whether it hits a cache or "
    "waits for memory. They repeat, on whatever machine and however busy; how long hardware takes they do "
    "not tell."
)
TOLD = (FIRST_PACKET, KEEP_ALIVE, NEW_CONNECTIONS, PROGRAMMING, SYNC_FULL)
"""The measures that have a sentence each."""

MOST_TOLD = 6
FAR_OUT = 0.02
"""Share of samples far out from which on a cell is named."""


def sentences(summary: Summary) -> list[str]:
    """What a reader in a hurry should know, computed from the run. None of it is said without data."""
    said = []
    sizes, modes = summary.run.sizes, [mode for mode in summary.run.modes if mode != DIRECT]
    if not sizes:
        return []
    said.append(_machines(summary))
    said += [_at_size(summary, measure.name, sizes[-1], modes) for measure in TOLD]
    if len(sizes) > 1:
        said.append(_growth(summary, FIRST_PACKET.name, sizes, modes))
        said.append(_slopes(summary, sizes, modes))
        said.append(_drift(summary, sizes))
    said += [_lost(summary), _changes(summary), _far_out(summary)]
    if summary.run.environment == INSTRUCTIONS:
        said.append(COUNTED)
    elif "TCG" in summary.run.facts.get("engine", ""):
        said.append(TRANSLATED)
    return [sentence for sentence in said if sentence]


def _machines(summary: Summary) -> str:
    """Between which machines of a fleet it was measured, and which were lost."""
    if summary.run.environment != FLEET:
        return ""
    method, facts = summary.run.method, summary.run.facts
    lost = "; ".join(filter(None, (facts.get("left out"), facts.get("lost"))))
    return (
        f"Between machines: from a Pod on {method['client on']} to Pods on {method['backends on']}; both ran "
        f"one mode after the other, {method['switches to each mode']} times each at each number of Services."
    ) + (f" Without what was lost ({lost})." if lost else "")


def _at_size(summary: Summary, measure: str, size: int, modes: list[str]) -> str:
    """Medians of all modes at one size, the best first."""
    rows = [row for mode in modes if (row := summary.row(measure, size, mode))]
    if not rows:
        return ""
    direct = summary.row(measure, size, DIRECT)
    of = unit(summary.run.environment, MEASURES[measure].unit)
    rows.sort(key=lambda row: row.median.estimate, reverse=of.better == "more")
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


def _where(measure: str, row: Row) -> str:
    return f"{row.mode} ({MEASURES[measure].title}, {count_of(row.services)})"


def _shortened(found: list[str], between: str) -> str:
    """The first of `found`, and how many more there are."""
    more = len(found) - MOST_TOLD
    return between.join(found[:MOST_TOLD] + [f"and {more} more"] * (more > 0))


def _changes(summary: Summary) -> str:
    """Cells whose level changed while they were sampled: the machine, or something that a round stirs up."""
    found = [
        f"{_where(measure, row)} from {of.shown(row.change.before)} to {of.shown(row.change.after)} "
        f"{of.name} in round {row.change.index + 1} of {row.rounds}"
        for measure, rows in summary.rows.items()
        for of in (unit(summary.run.environment, MEASURES[measure].unit),)
        for row in rows
        if row.change
    ]
    if not found:
        return ""
    return f"The level changed while sampling (Pettitt's test, p < 0.001): {_shortened(found, '; ')}."


def _far_out(summary: Summary) -> str:
    """Cells with many samples far out. They are in every figure."""
    found = [
        f"{_where(measure, row)} {row.outliers} of {row.count}"
        for measure, rows in summary.rows.items()
        for row in rows
        if row.outliers > FAR_OUT * row.count
    ]
    if not found:
        return ""
    told = _shortened(found, ", ")
    return f"Samples more than three interquartile ranges out, all of them in the figures: {told}."


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
