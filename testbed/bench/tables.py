"""Tables of results, and their forms: terminal, Markdown, HTML, CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from testbed.bench.measures import MEASURES, count_of
from testbed.bench.plan import OTHER_NODE
from testbed.bench.summary import PERCENTILES, Row, Summary, times
from testbed.bench.units import INSTRUCTIONS, Unit, unit


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows of text. Columns named in `words` are words, the rest figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ("mode", "from", "measure")

    def is_word(self, index: int) -> bool:
        return self.heads[index] in self.words


def figures(summary: Summary, measure: str, *, brief: bool = False) -> Table:
    """Median with its interval, percentiles and ratios; unless `brief`, also the positions and the count."""
    of = unit(summary.run.environment, MEASURES[measure].unit)
    rows = summary.rows[measure]
    columns = [column for column in _columns(summary, of, brief) if column[2](rows)]
    heads = tuple(head for head, _, _ in columns)
    return Table(
        MEASURES[measure].title, heads, tuple(tuple(cell(row) for _, cell, _ in columns) for row in rows)
    )


Wanted = Callable[[Sequence[Row]], bool]
Shown = Callable[[Row], str]


def _always(_: Sequence[Row]) -> bool:
    return True


def _columns(summary: Summary, of: Unit, brief: bool) -> list[tuple[str, Shown, Wanted]]:
    """(head, what stands in a row, whether there is anything to stand in it)."""
    placed = not brief and summary.run.environment != INSTRUCTIONS

    def percentile(q: float) -> tuple[str, Shown, Wanted]:
        return (
            f"p{q * 100:g}",
            lambda row: of.shown(row.percentiles[q]) if q in row.percentiles else "too few",
            lambda rows: any(q in row.percentiles for row in rows),
        )

    shown = [0.99] if brief else [q for q in PERCENTILES if q != 0.5]
    below, above = [q for q in shown if q < 0.5], [q for q in shown if q > 0.5]
    return [
        ("Services", lambda row: f"{row.services:,}", _always),
        ("endpoints", lambda row: str(row.endpoints), lambda rows: any(r.endpoints > 1 for r in rows)),
        ("from", lambda row: row.path, lambda rows: any(r.path != OTHER_NODE for r in rows)),
        ("mode", lambda row: row.mode, _always),
        *map(percentile, below),
        (f"median {of.name}", lambda row: _median(row, of), _always),
        *map(percentile, above),
        (
            "× direct",
            lambda row: times(row.to_direct, row.bounded) if row.to_direct else "–",
            lambda rows: any(r.to_direct for r in rows),
        ),
        (
            f"× {summary.base}",
            lambda row: times(row.to_base, row.bounded) if row.to_base else "–",
            lambda rows: any(r.to_base for r in rows),
        ),
        (
            "first / middle / last",
            lambda row: " / ".join(map(of.shown, row.positions.values())) or "–",
            lambda rows: placed and any(len(r.positions) > 1 for r in rows),
        ),
        ("samples", _count, lambda rows: not brief),
    ]


def _median(row: Row, of: Unit) -> str:
    bounds = f" ({of.shown(row.median.low)}–{of.shown(row.median.high)})" if row.bounded else ""
    return of.shown(row.median.estimate) + bounds


def _count(row: Row) -> str:
    notes = [f"{row.lost} lost"] if row.lost else []
    notes += [f"{row.outliers} far out"] if row.outliers else []
    return ", ".join([str(row.count), *notes])


def overview(summary: Summary) -> Table:
    """All measures at the largest size, a column a mode: the medians."""
    size, modes = summary.run.sizes[-1], summary.run.modes
    rows = []
    for measure in summary.rows:
        found = {mode: summary.row(measure, size, mode, summary.endpoints[0]) for mode in modes}
        if not any(found.values()):
            continue
        of = unit(summary.run.environment, MEASURES[measure].unit)
        cells = [of.shown(row.median.estimate) if row else "–" for row in found.values()]
        rows.append((MEASURES[measure].title, of.name, *cells))
    heads = ("measure", "unit", *modes)
    return Table(f"At {count_of(size)}, medians", heads, tuple(rows), ("measure", "unit"))


def to_text(table: Table) -> str:
    """For a terminal: aligned, two spaces between columns, a blank line between sizes."""
    lines = [table.heads, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heads))]
    out = [table.title]
    previous = ""
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if table.is_word(i) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        if number > 1 and table.heads[0] == "Services" and line[0] != previous:
            out.append("")
        previous = line[0]
        out.append("  " + "  ".join(cells).rstrip())
    return "\n".join(out)


def to_markdown(table: Table) -> str:
    """A pipe table under a bold title."""
    marks = ["---" if table.is_word(i) else "---:" for i in range(len(table.heads))]
    lines = [table.heads, tuple(marks), *table.rows]
    return f"**{table.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_csv(table: Table) -> str:
    """Plain figures: without the commas of thousands."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.heads)
    for row in table.rows:
        writer.writerow([cell if table.is_word(i) else cell.replace(",", "") for i, cell in enumerate(row)])
    return out.getvalue()


def to_html(table: Table) -> str:
    """A table that scrolls sideways by itself on a narrow screen, with itself as CSV to take away."""

    def line(cells: tuple[str, ...], tag: str, scope: str = "") -> str:
        return "".join(
            f"<{tag}{scope}{' class=word' if table.is_word(i) else ''}>{_cell(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = []
    previous = table.rows[0][0] if table.rows else ""
    for row in table.rows:
        new = ' class="new"' if table.heads[0] == "Services" and row[0] != previous else ""
        previous = row[0]
        body.append(f"<tr{new}>{line(row, 'td')}</tr>")
    data = base64.b64encode(to_csv(table).encode()).decode()
    name = "".join(letter if letter.isalnum() else "-" for letter in table.title.lower())
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr>{line(table.heads, 'th', ' scope=col')}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f'<p class="take"><a download="{name}.csv" href="data:text/csv;base64,{data}">'
        f"CSV<span class=unseen> of {escape(table.title)}</span></a></p>"
    )


def _cell(text: str) -> str:
    """The interval in brackets is set back, so that the estimate stands out."""
    estimate, bracket, bounds = text.partition(" (")
    return escape(estimate) + (f" <small>({escape(bounds)}</small>" if bracket else "")
