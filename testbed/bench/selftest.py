"""The benchmark against itself: A against A must show no difference, A against A + 2 % must show it.

By the clock, A is a client of a node in iptables mode, and in A + 2 % the prober spins for a fiftieth of the
time that each sample took. Under the instruction clock A is iptables-legacy at 1,000 Services, and A + 2 %
has as many Services more as take a fiftieth of its instructions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count

from testbed.bench import counted as counting
from testbed.bench import environments, native
from testbed.bench.columns import COLUMNS
from testbed.bench.compare import REPEATS, percent
from testbed.bench.latency import LATENCY
from testbed.bench.measures import FIRST_PACKET, MEASURES, count_of
from testbed.bench.plan import OTHER_NODE, QUICK
from testbed.bench.quiet import settle
from testbed.bench.record import Cell
from testbed.bench.sampling import Point, sample, spread
from testbed.bench.stage import grow, staged
from testbed.bench.statistics import Interval, median, quantile, ratio, resample
from testbed.bench.taking import Seat

A, AGAIN, MORE = "A", "A again", "A + 2 %"
HANDICAP = 0.02
TAIL = 0.005
"""99 % intervals: one true A/A in a hundred is called a difference."""

NARROW = 0.007
"""Half the width of an interval that can tell 2 %; rounds are added until it is reached."""
LONGEST = 150.0
"""Seconds of sampling after which what there is must do."""

SERVICES = 100
SETTLE = 60.0

COUNTED_SERVICES = 1000
PER_SERVICE, PACKET = 26, 92_700
"""Instructions of iptables-legacy for each Service, and for a first packet at COUNTED_SERVICES."""

Say = Callable[[str], None]
Cells = dict[tuple[str, str], Cell]
"""By measure and column."""


@dataclass(frozen=True)
class Verdict:
    good: bool
    lines: tuple[str, ...]


def timed(say: Say) -> Verdict:
    """By the wall clock, on this machine."""
    column, cells = COLUMNS["iptables"], Cells()
    with ExitStack() as stack:
        say("bringing up a cluster of one mode")
        site = stack.enter_context(native.site([column], lambda _: None))
        stage = stack.enter_context(staged(site, [column], 1, [OTHER_NODE], [], lambda _: None))
        asyncio.run(grow(stage, SERVICES))
        settle(site.busy, SETTLE)
        targets = stage.targets(column, OTHER_NODE, spread(SERVICES))
        place = stage.places[column.name, OTHER_NODE]
        seats = [
            Seat(replace(column, name=name), OTHER_NODE, place, targets, stage, stretch)
            for name, stretch in ((A, 0.0), (AGAIN, 0.0), (MORE, HANDICAP))
        ]
        point = Point(environments.here(), SERVICES, 1)
        end = time.monotonic() + LONGEST
        for chunk in count():
            taken = sample(point, LATENCY, seats, QUICK, seed=chunk)
            for cell in taken:
                cells[cell.measure, cell.mode] = _with(cells.get((cell.measure, cell.mode)), cell)
            widest = max(_half(_against(cells, measure, AGAIN)) for measure in _measures(cells))
            many = len(cells[FIRST_PACKET.name, A].samples)
            say(f"{many:,} samples of each, intervals of ±{widest:.1%} or less")
            if widest <= NARROW or time.monotonic() > end:
                break
    return judged(cells)


def judged(cells: Cells) -> Verdict:
    """What the samples say, measure by measure."""
    lines = [f"{count_of(SERVICES)}, iptables mode against itself, ratios of medians, 99 % intervals"]
    good, widest = True, 0.0
    for measure in _measures(cells):
        same, more = _against(cells, measure, AGAIN), _against(cells, measure, MORE)
        good &= 1.0 in same and more.low > 1
        widest = max(widest, _half(more))
        title = MEASURES[measure].title
        lines.append(_line(title, AGAIN, same, "no difference" if 1.0 in same else "DIFFERS"))
        lines.append(_line(title, MORE, more, "found" if more.low > 1 else "NOT FOUND"))
    if not good and widest > NARROW:
        lines.append(
            f"The machine is too noisy to tell 2 %: intervals of ±{widest:.1%}. "
            "--clock instructions does not mind."
        )
    return Verdict(good, tuple(lines))


def counted(say: Say) -> Verdict:
    """Under the instruction clock."""
    more = round(HANDICAP * PACKET / PER_SERVICE)
    mode, services = "iptables-legacy", COUNTED_SERVICES
    spots = [counting.Spot(A, mode, services), counting.Spot(AGAIN, mode, services)]
    spots.append(counting.Spot(MORE, mode, services, more))
    run = counting.measure(spots, say, {})
    middle = {cell.mode: median(cell.samples) for cell in run.cells if cell.measure == FIRST_PACKET.name}
    same, found = middle[AGAIN] / middle[A] - 1, middle[MORE] / middle[A] - 1
    good = abs(same) <= REPEATS and abs(found - HANDICAP) <= REPEATS
    return Verdict(
        good,
        (
            f"{mode}, {count_of(services)}: {middle[A] * 1e3:,.0f} instructions",
            f"{AGAIN}: {same:+.3%}, {'no difference' if abs(same) <= REPEATS else 'DIFFERS'}",
            f"{MORE} ({more} Services more): {found:+.3%}, "
            f"{'found' if abs(found - HANDICAP) <= REPEATS else 'NOT FOUND'}",
        ),
    )


def _with(before: Cell | None, cell: Cell) -> Cell:
    """Both cells' samples; the rounds of the second follow those of the first."""
    if before is None:
        return cell
    shift = max(before.blocks) + 1
    return replace(
        before,
        samples=before.samples + cell.samples,
        blocks=before.blocks + tuple(shift + block for block in cell.blocks),
        positions=before.positions + cell.positions,
        lost=before.lost + cell.lost,
    )


def _measures(cells: Cells) -> list[str]:
    return list(dict.fromkeys(measure for measure, _ in cells))


def _against(cells: Cells, measure: str, name: str) -> Interval:
    """Another column's median over A's, the same rounds drawn for both."""
    drawn = {own: resample(cells[measure, own].samples, cells[measure, own].blocks) for own in (A, name)}
    quotients = [a / b for a, b in zip(drawn[name].draws, drawn[A].draws, strict=True)]
    of = ratio(drawn[name], drawn[A])
    return Interval(of.estimate, quantile(quotients, TAIL), quantile(quotients, 1 - TAIL))


def _half(of: Interval) -> float:
    return (of.high - of.low) / 2


def _line(title: str, name: str, of: Interval, said: str) -> str:
    return f"  {title}, {name}: {percent(of)}: {said}"
