"""Two runs compared: what changed, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.bench.columns import DIRECT
from testbed.bench.measures import MEASURES
from testbed.bench.plan import OTHER_NODE
from testbed.bench.record import Cell, Results, Run
from testbed.bench.statistics import SEED, Interval, Resampled, ratio, resample
from testbed.bench.summary import ENVIRONMENTS, FEWEST_ROUNDS, times
from testbed.bench.tables import Table
from testbed.bench.units import INSTRUCTIONS, Unit, unit
from testbed.errors import UsageError

SAME = ("engine", "kernel", "processor", "iptables", "beside")
"""Facts that must agree; another kernel is another experiment. `beside`: see `testbed.bench.counted`."""


DRIFT = "the same, × direct"
REPEATS = 0.005
"""Under the instruction clock two runs of the same thing differ by less than this; see docs/measuring.md."""


def comparable(before: Results, after: Results) -> list[tuple[Run, Run]]:
    """The runs of the same environment. Raises UsageError when there is none, or one that is not the same."""
    olds = {run.environment: run for run in before.runs}
    pairs = [(olds[run.environment], run) for run in after.runs if run.environment in olds]
    if not pairs:
        raise UsageError(
            f"nothing to compare: one was measured in {', '.join(olds)}, the other in "
            f"{', '.join(run.environment for run in after.runs)}; measure both with the same --env"
        )
    for old, new in pairs:
        if difference := differing(old.facts, new.facts):
            raise UsageError(f"results of different environments are not compared: {difference}")
    return pairs


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The first fact that makes two environments different experiments, in words; "" when there is none."""
    for fact in SAME:
        one, other = old.get(fact, ""), new.get(fact, "")
        if one != other:
            return f"{fact} was {one!r}, is {other!r}"
    return ""


def tables(old: Run, new: Run) -> list[Table]:
    """For each measure both have: medians, their ratio, and that ratio with the drift of direct taken out."""
    name = ENVIRONMENTS.get(new.environment, new.environment)
    found = []
    for measure in (measure for measure in MEASURES if measure in old.measures and measure in new.measures):
        of = unit(new.environment, MEASURES[measure].unit)
        cells = [cell for cell in new.cells if cell.measure == measure]
        cells.sort(key=lambda cell: (cell.services, cell.endpoints, cell.path, new.modes.index(cell.mode)))
        rows = [row for cell in cells if (row := _row(old, new, cell, of))]
        heads = ("Services", "mode", f"before {of.name}", f"after {of.name}", "after / before", DRIFT, "")
        found.append(Table(f"{name}: {MEASURES[measure].title}", heads, tuple(rows)))
    return found


def _row(old: Run, new: Run, cell: Cell, of: Unit) -> tuple[str, ...] | None:
    former = old.cell(*cell.key[1:])
    if former is None:
        return None
    counted = new.environment == INSTRUCTIONS
    a, b = _drawn(former), _drawn(cell, SEED + 1)
    change = ratio(b, a) if a.positive else None
    base = _direct(old, new, cell) if cell.mode != DIRECT else None
    clean = ratio(_over(b, base[1]), _over(a, base[0])) if base and change else None
    shown = percent if counted else times
    return (
        f"{cell.services:,}" + "".join(f", {more}" for more in _axes(cell)),
        cell.mode,
        of.shown(a.median),
        of.shown(b.median),
        shown(change) if change else "–",
        shown(clean) if clean else "–",
        _said(change, clean, cell, len(set(former.blocks)), of, counted),
    )


def _axes(cell: Cell) -> list[str]:
    more = [f"{cell.endpoints} endpoints"] if cell.endpoints > 1 else []
    return more + ([cell.path] if cell.path != OTHER_NODE else [])


def _said(
    change: Interval | None, clean: Interval | None, cell: Cell, rounds: int, of: Unit, counted: bool
) -> str:
    """The last column: a verdict, or why there is none."""
    if counted and of.name == INSTRUCTIONS and change:
        return _counted(change)
    if change is None:
        return "the same" if not any(cell.samples) else "not comparable"
    if min(rounds, len(set(cell.blocks))) < FEWEST_ROUNDS:
        return "too few rounds to tell"
    if cell.mode == DIRECT:
        return "the base"
    return verdict(clean or change, of.better)


def _drawn(cell: Cell, seed: int = SEED) -> Resampled:
    return resample(cell.samples, cell.blocks, seed=seed)


def _direct(old: Run, new: Run, cell: Cell) -> tuple[Resampled, Resampled] | None:
    before, after = old.cell(*cell.beside(DIRECT)[1:]), new.cell(*cell.beside(DIRECT)[1:])
    if not before or not after:
        return None
    drawn = _drawn(before), _drawn(after, SEED + 1)
    return drawn if drawn[0].positive and drawn[1].positive else None


def _over(top: Resampled, bottom: Resampled) -> Resampled:
    """A ratio of two medians of one run, draw by draw."""
    return Resampled(
        top.median / bottom.median, tuple(a / b for a, b in zip(top.draws, bottom.draws, strict=True))
    )


def percent(change: Interval) -> str:
    """`+0.06 % (-0.01 to +0.10)`."""
    low, middle, high = ((value - 1) * 100 for value in (change.low, change.estimate, change.high))
    return f"{middle:+.2f} % ({low:+.2f} to {high:+.2f})"


def _counted(change: Interval) -> str:
    if abs(change.estimate - 1) <= REPEATS:
        return f"the same within {REPEATS:.1%}"
    return "more" if change.estimate > 1 else "fewer"


def verdict(change: Interval, better: str = "less") -> str:
    """What the interval says: a change is one only when 1 is outside."""
    if 1.0 in change:
        return "no difference shown"
    return "better" if (change.estimate > 1) == (better == "more") else "worse"
