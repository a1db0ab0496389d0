"""Two runs compared: what changed, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.bench.measures import DIRECT, MEASURES
from testbed.bench.record import Results, Run
from testbed.bench.statistics import SEED, Interval, Resampled, ratio, resample
from testbed.bench.summary import ENVIRONMENTS, times
from testbed.bench.tables import Table
from testbed.bench.units import INSTRUCTIONS, unit
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
    of, counted = unit(new.environment), new.environment == INSTRUCTIONS
    shown = percent if counted else times
    found = []
    for measure in (measure for measure in old.measures if measure in new.measures):
        rows = []
        cells = [cell for cell in new.cells if cell.measure == measure]
        for cell in sorted(cells, key=lambda cell: (cell.services, new.modes.index(cell.mode))):
            former = old.cell(measure, cell.services, cell.mode)
            if former is None:
                continue
            a = resample(former.samples, former.blocks)
            b = resample(cell.samples, cell.blocks, seed=SEED + 1)
            base = _direct(old, new, measure, cell.services) if cell.mode != DIRECT else None
            clean = ratio(_over(b, base[1]), _over(a, base[0])) if base else None
            rows.append(
                (
                    f"{cell.services:,}",
                    cell.mode,
                    of.shown(a.median),
                    of.shown(b.median),
                    shown(ratio(b, a)),
                    shown(clean) if clean else "–",
                    _counted(ratio(b, a)) if counted else verdict(clean) if clean else "the base",
                )
            )
        heads = ("Services", "mode", f"before {of.name}", f"after {of.name}", "after / before", DRIFT, "")
        found.append(Table(f"{name}: {MEASURES[measure].title}", heads, tuple(rows), words=2))
    return found


def _direct(old: Run, new: Run, measure: str, services: int) -> tuple[Resampled, Resampled] | None:
    before, after = old.cell(measure, services, DIRECT), new.cell(measure, services, DIRECT)
    if not before or not after:
        return None
    return resample(before.samples, before.blocks), resample(after.samples, after.blocks, seed=SEED + 1)


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


def verdict(change: Interval) -> str:
    """What the interval says: a change is one only when 1 is outside."""
    if 1.0 in change:
        return "no difference shown"
    return "slower" if change.estimate > 1 else "faster"
