"""What changed from one run to another, for people: sentences first, then each measure's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from testbed.bench import page
from testbed.bench.tables import Table, to_html, to_markdown, to_text

HEADING = "Two runs compared"
CHANGED = ("worse", "better", "more", "fewer")
MOST_NAMED = 12
HOW = (
    "The machine may have been faster on one day than on the other, so the verdict is about the ratio to "
    "direct of each run where there is one. Intervals are 95 %: of forty rows without any change, two may "
    "well say that there is one."
)


def sentences(tables: Sequence[Table]) -> list[str]:
    """How many figures changed, and which; a figure is a row of `compare.tables`."""
    rows = [(table.title, row) for table in tables for row in table.rows]
    told = Counter(row[-1] for _, row in rows)
    said = [
        f"{len(rows)} figures: " + ", ".join(f"{count} {verdict}" for verdict, count in told.most_common())
    ]
    changed = [(title, row) for title, row in rows if row[-1] in CHANGED]
    for title, (services, mode, before, after, change, clean, verdict) in changed[:MOST_NAMED]:
        against = f", {clean} × direct" if clean != "–" else ""
        said.append(f"{title}, {mode} at {services}: {verdict}, {before} → {after}, {change}{against}")
    if len(changed) > MOST_NAMED:
        said.append(f"… and {len(changed) - MOST_NAMED} more, in the tables")
    return said


def text(tables: Sequence[Table]) -> str:
    """For the terminal: the tables, and what they say at the end, where it is read."""
    said = "\n".join(f"* {sentence}" for sentence in sentences(tables))
    return "\n\n".join([*map(to_text, tables), said])


def markdown(tables: Sequence[Table]) -> str:
    said = "\n".join(f"- {sentence}" for sentence in sentences(tables))
    return "\n\n".join([said, *map(to_markdown, tables)])


def html(tables: Sequence[Table], before: str, after: str) -> str:
    """The page. `before`, `after`: when the runs were taken, ISO dates."""
    body = [f"<h1>{HEADING}</h1>"]
    body.append(f'<p class="date">{page.when(before)}, then {page.when(after)}</p>')
    body.append(page.listed(sentences(tables)))
    body += [f"<h3>{escape(table.title)}</h3>{to_html(table)}" for table in tables]
    body.append(f"<p>{HOW}</p>")
    return page.page(HEADING, body)
