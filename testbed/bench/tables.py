"""Tables of results, and their three forms: terminal, Markdown, HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from testbed.bench.measures import MEASURES
from testbed.bench.record import Run
from testbed.bench.summary import BASE, Summary, times
from testbed.bench.units import INSTRUCTIONS, unit


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows of text. The first `words` columns are words, the rest figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def latency(summary: Summary, measure: str, *, brief: bool = False) -> Table:
    """Median with its interval, p99 and ratios; unless `brief`, also the positions and the count."""
    compared = BASE in summary.run.modes
    of = unit(summary.run.environment)
    placed = not brief and summary.run.environment != INSTRUCTIONS
    heads = ["Services", "mode", f"median {of.name}", f"p99 {of.name}", "× direct"]
    heads += [f"× {BASE}"] if compared else []
    heads += [f"first / middle / last {of.name}"] if placed else []
    heads += [] if brief else ["samples"]
    rows = []
    for row in summary.rows[measure]:
        bounds = f" ({of.shown(row.median.low)}–{of.shown(row.median.high)})"
        cells = [
            f"{row.services:,}",
            row.mode,
            of.shown(row.median.estimate) + bounds,
            "too few" if row.p99 is None else of.shown(row.p99),
            times(row.to_direct) if row.to_direct else "–",
        ]
        cells += [times(row.to_base) if row.to_base else "–"] if compared else []
        cells += [" / ".join(map(of.shown, row.positions.values())) or "–"] if placed else []
        cells += [] if brief else [f"{row.count}, {row.lost} lost" if row.lost else str(row.count)]
        rows.append(tuple(cells))
    return Table(MEASURES[measure].title, tuple(heads), tuple(rows), words=2)


def programming(run: Run) -> Table:
    """Seconds from the first API write of a step to the answer of its last Service, in each mode."""
    modes = tuple(dict.fromkeys(step.mode for step in run.programming))
    rows = []
    for services, added in dict.fromkeys((step.services, step.added) for step in run.programming):
        found = {step.mode: step.seconds for step in run.programming if step.services == services}
        figures = (f"{found[mode]:.2f}" if mode in found else "–" for mode in modes)
        rows.append((f"{services:,}", f"{added:,}", *figures))
    heads = ("Services", "added", *(f"{mode} s" for mode in modes))
    return Table("Programming: first API write to the answer of the last new Service", heads, tuple(rows), 0)


def to_text(table: Table) -> str:
    """For a terminal: aligned, two spaces between columns, a blank line between sizes."""
    lines = [table.heads, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heads))]
    out = [table.title]
    previous = ""
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if 0 < i < table.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        if number > 1 and table.words > 1 and line[0] != previous:
            out.append("")
        previous = line[0]
        out.append("  " + "  ".join(cells).rstrip())
    return "\n".join(out)


def to_markdown(table: Table) -> str:
    """A pipe table under a bold title."""
    marks = ["---" if i == 1 and table.words > 1 else "---:" for i in range(len(table.heads))]
    lines = [table.heads, tuple(marks), *table.rows]
    return f"**{table.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_html(table: Table) -> str:
    """A table that scrolls sideways by itself on a narrow screen; its title is for the heading above it."""

    def line(cells: tuple[str, ...], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=word' if i == 1 and table.words > 1 else ''}>{_cell(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = []
    previous = table.rows[0][0] if table.rows else ""
    for row in table.rows:
        new = ' class="new"' if table.words > 1 and row[0] != previous else ""
        previous = row[0]
        body.append(f"<tr{new}>{line(row, 'td')}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<thead><tr>{line(table.heads, 'th')}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """The interval in brackets is set back, so that the estimate stands out."""
    estimate, bracket, bounds = text.partition(" (")
    return escape(estimate) + (f" <small>({escape(bounds)}</small>" if bracket else "")
