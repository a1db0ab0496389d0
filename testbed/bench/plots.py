"""The plots of a report, as SVG. Colours are classes (`c-iptables`), so that the page's style has them."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.bench.measures import MEASURES, count_of
from testbed.bench.plan import OTHER_NODE
from testbed.bench.statistics import ecdf, enough, quantile
from testbed.bench.summary import Row, Summary
from testbed.bench.svg import Axis, apart, around, element, path, text, title
from testbed.bench.units import Unit, unit

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP, BOTTOM = 50, 96, 18, 44
LABEL_ROOM = 15.0
"""Pixels between the lines of the names at the right."""

MARKS = {
    "direct": "M-4.5,0 L0,-4.5 L4.5,0 L0,4.5 Z",
    "iptables": "M-4.2,0 A4.2,4.2 0 1 0 4.2,0 A4.2,4.2 0 1 0 -4.2,0 Z",
    "iptables-legacy": "M-4.2,0 A4.2,4.2 0 1 0 4.2,0 A4.2,4.2 0 1 0 -4.2,0 Z",
    "iptables-nft": "M0,-5 L5,4 H-5 Z",
    "ipvs": "M-4,-4 H4 V4 H-4 Z",
    "nftables": "M0,5 L5,-4 H-5 Z",
    "userspace": "M0,-5 L5,4 H-5 Z",
    "userspace-haproxy": "M-5,0 H5 M0,-5 V5",
}
SHORT = {"iptables-legacy": "ipt-legacy", "iptables-nft": "ipt-nft", "userspace-haproxy": "haproxy"}
"""Names beside the lines, where the mode's own has no room."""
OTHER_MARK = "M-4.5,-4.5 L4.5,4.5 M-4.5,4.5 L4.5,-4.5"
CURVE_POINTS = 120
FEWEST = 30
"""Samples that a distribution needs to be drawn."""

AXES = {"services": "Services", "endpoints": "endpoints of each Service"}


def _frame(label: str, *inside: str, height: int = HEIGHT) -> str:
    return element(
        "svg",
        title(label),
        *inside,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        class_="plot",
    )


def _colour(mode: str) -> str:
    return f"c-{mode if mode in MARKS else 'other'}"


def _mark(mode: str, x: float, y: float, hint: str) -> str:
    """A mark with a larger, unseen target around it for the pointer, and its value on hover."""
    return element(
        "g",
        title(hint),
        element("circle", r=11, class_="hit"),
        element("path", d=MARKS.get(mode, OTHER_MARK), class_="mark"),
        transform=f"translate({x:.1f},{y:.1f})",
        class_=_colour(mode),
    )


def _up(axis: Axis, of: Unit) -> str:
    """Horizontal grid lines with the unit at the left."""
    lines = []
    for tick in axis.ticks():
        y = axis(tick)
        lines.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(text(f"{tick:,.10g}", LEFT - 7, y + 4, "tick", "end"))
    return "".join(lines) + text(of.axis, LEFT, TOP - 6, "tick")


def _names(places: Sequence[tuple[str, float]]) -> str:
    """Mode names at the right, beside where their lines end, never on each other."""
    moved = apart([y for _, y in places], LABEL_ROOM, TOP + 4.0, HEIGHT - BOTTOM)
    return "".join(
        text(SHORT.get(mode, mode), WIDTH - RIGHT + 14, y + 4, f"name {_colour(mode)}")
        for (mode, _), y in zip(places, moved, strict=True)
    )


def slices(summary: Summary, measure: str, along: str = "services") -> list[tuple[str, list[Row]]]:
    """The rows of a measure that share all axes but `along`: (what they share, rows)."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in summary.rows[measure]:
        key = (row.path, row.endpoints if along == "services" else row.services)
        found.setdefault(key, []).append(row)
    drawn = []
    for (path_, other), rows in found.items():
        if len({getattr(row, along) for row in rows}) < (2 if along == "endpoints" else 1):
            continue
        if min(row.median.low for row in rows) <= 0:
            continue  # a logarithmic axis has no zero: the table has it
        shared = [] if path_ == OTHER_NODE else [str(path_)]
        if along == "endpoints":
            shared.append(count_of(int(str(other))))
        elif other != 1:
            shared.append(f"{other} endpoints")
        drawn.append((", ".join(shared), rows))
    return drawn


def growth(summary: Summary, measure: str, rows: Sequence[Row], along: str = "services") -> str:
    """Median with its interval against the number of Services, one line a mode, both axes logarithmic."""
    label = f"{MEASURES[measure].title}: median against the number of {AXES[along]}"
    return _frame(label, *growth_parts(summary, measure, rows, along))


def growth_parts(summary: Summary, measure: str, rows: Sequence[Row], along: str = "services") -> list[str]:
    """What `growth` draws, to be put into a picture of more."""
    sizes = sorted({getattr(row, along) for row in rows})
    modes = [mode for mode in summary.run.modes if any(row.mode == mode for row in rows)]
    up = Axis(*around([v for r in rows for v in (r.median.low, r.median.high)]), HEIGHT - BOTTOM, TOP)
    right = WIDTH - RIGHT - 14.0
    across = Axis(sizes[0], max(sizes[-1], sizes[0] * 10), LEFT + 18.0, right)
    of = unit(summary.run.environment, MEASURES[measure].unit)
    parts = [_up(up, of)]
    for size in sizes:
        parts.append(text(f"{size:,}", across(size), HEIGHT - BOTTOM + 18, "tick", "middle"))
    parts.append(text(AXES[along], (LEFT + right) / 2, HEIGHT - 8, "tick", "middle"))
    ends = []
    for number, mode in enumerate(modes):
        shift = (number - (len(modes) - 1) / 2) * 5
        own = [row for row in rows if row.mode == mode]
        places = [(across(getattr(row, along)) + shift, up(row.median.estimate)) for row in own]
        parts.append(_line(mode, own, places, up, of))
        ends.append((mode, places[-1][1]))
    return [*parts, _names(ends)]


def _line(mode: str, rows: Sequence[Row], places: Sequence[tuple[float, float]], up: Axis, of: Unit) -> str:
    parts = [path(places, "line")]
    for row, (x, y) in zip(rows, places, strict=True):
        low, high = up(row.median.low), up(row.median.high)
        parts.append(element("line", x1=x, x2=x, y1=low, y2=high, class_="bar"))
        bounds = (
            f", 95 % interval {of.shown(row.median.low)}–{of.shown(row.median.high)}" if row.bounded else ""
        )
        hint = (
            f"{mode}, {count_of(row.services)}: median {of.shown(row.median.estimate)} {of.name}{bounds}, "
            f"{row.count} sample{'' if row.count == 1 else 's'}"
        )
        parts.append(_mark(mode, x, y, hint))
    return element("g", *parts, class_=_colour(mode))


def distribution(summary: Summary, measure: str, services: int, path_: str, endpoints: int) -> str:
    """The share of samples (upwards) that took at most so long (across, logarithmic), one curve a mode.

    "" when there are too few samples.

    The axis ends at the largest p99 of a mode; what lies beyond stays in the table and the raw samples.
    """
    of = unit(summary.run.environment, MEASURES[measure].unit)
    run = summary.run
    found = [run.cell(measure, services, mode, endpoints, path_) for mode in run.modes]
    cells = [cell for cell in found if cell and len(cell.samples) >= FEWEST and min(cell.samples) > 0]
    if not cells:
        return ""
    ends = [quantile(c.samples, 0.99) if enough(len(c.samples), 0.99) else max(c.samples) for c in cells]
    low, high = around([*(min(c.samples) for c in cells), *ends], 1.05)
    across = Axis(low, high, LEFT, WIDTH - RIGHT)
    top, bottom = TOP + 4.0, HEIGHT - BOTTOM + 0.0
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(text(f"{share:.0%}", LEFT - 7, y + 4, "tick", "end"))
    for tick in across.ticks():
        x = across(tick)
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(text(f"{tick:,.10g}", x, bottom + 18, "tick", "middle"))
    parts.append(text(f"{of.axis} or less", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "tick", "middle"))
    middles = []
    for number, cell in enumerate(cells):
        points = ecdf(cell.samples)
        step = max(1, len(points) // CURVE_POINTS)
        shown = [point for point in points[::step] if point[0] <= high]
        line = path([(across(v), bottom - share * (bottom - top)) for v, share in shown], "line")
        middle = quantile(cell.samples, 0.5)
        hint = ", ".join(
            f"p{q * 100:g} {of.shown(quantile(cell.samples, q))}"
            for q in (0.01, 0.5, 0.9, 0.99)
            if enough(len(cell.samples), q)
        )
        mark = _mark(cell.mode, across(middle), (top + bottom) / 2, f"{cell.mode}: {hint} {of.name}")
        parts.append(element("g", line, mark, class_=_colour(cell.mode)))
        middles.append((cell.mode, top + 20 + 20.0 * number))
    parts.append(_names(middles))
    return _frame(f"{MEASURES[measure].title} at {count_of(services)}: distribution", *parts)
