"""The report of a run: one self-contained HTML page, Markdown, pictures, and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from testbed.bench import page, pictures, plots, tables
from testbed.bench.environments import FLEET
from testbed.bench.measures import FIRST_PACKET, MEASURES, count_of
from testbed.bench.plan import OTHER_NODE
from testbed.bench.record import Results, Run
from testbed.bench.summary import ENVIRONMENTS, Summary, summarise
from testbed.bench.topology import between, picture
from testbed.bench.units import INSTRUCTIONS, unit
from testbed.bench.words import sentences
from testbed.errors import TestbedError

HEADING = "Service proxy modes compared"
HOW = (
    "All modes run at once, on nodes of their own, from the same API objects. Samples are taken in "
    "rounds that visit the modes in a new random order each time; the first is thrown away. The Services "
    "probed are the first, the middle one and the last of the list. Direct is Pod to Pod without a Service, "
    "from a node that has no proxy."
)
HOW_COUNTED = (
    "Each mode at each number of Services has a client, a node and a backend of its own; the node holds the "
    "rules that the mode itself rendered; there is no cluster. Samples are taken in rounds that visit all of "
    "them in a new random order each time; the Service probed is the last of the list. One process holds "
    "both ends of a connection, so no scheduler stands in a sample, and the source port is chosen before it "
    "begins. Direct goes the same way, through a node without rules."
)
HOW_BETWEEN = (
    "On a fleet the client is a Pod on one machine and the backends are Pods on another. Both machines run "
    "one mode, then another: in each round all modes in a new random order. A mode is measured when the "
    "agents of both have synced, what the mode before had left is gone, and the Services probed answer. Then "
    "direct connections are taken by turns with those through a Service; the first turn is thrown away. "
    "Direct is Pod to Pod without a Service, past the rules that the mode has there. The Services probed are "
    "the first, the middle one and the last of the list."
)
SEPARATE = (
    "Each environment has tables of its own: another kernel or machine is another experiment, and figures of "
    "one say nothing of ratios in the other."
)
IN_TERMINAL = (FIRST_PACKET.name,)
FEW = 4
"""So many measures fit into a terminal with all their sizes."""

INTERVALS = (
    "Intervals are 95 % bootstrap intervals of the median (or of the ratio of two medians); whole rounds are "
    "resampled, because samples of one round share what the machine was doing."
)


def summaries(results: Results) -> list[Summary]:
    """All runs of a session, summed up once; everything below takes these."""
    return [summarise(run) for run in results.runs]


def html(summed: Sequence[Summary], taken: str) -> str:
    """The page. It loads nothing from anywhere."""
    body = [f"<h1>{HEADING}</h1>", f'<p class="date">{escape(page.when(taken))}</p>']
    body.append(_contents(summed))
    for summary in summed:
        body.append(f"<h2>{escape(summary.title)}</h2>{page.listed(sentences(summary))}")
        body.append(_section(summary))
    body.append(_method(summed))
    return page.page(HEADING, body)


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def _section(summary: Summary) -> str:
    """The overview, then each measure: its plots and its table; then what it all ran on."""
    run = summary.run
    parts = [_heading(3, "At a glance"), tables.to_html(tables.overview(summary))]
    for measure in summary.rows:
        parts.append(_heading(3, MEASURES[measure].title, _anchor(summary, measure)))
        if drawings := _drawings(summary, measure):
            parts.append(f'<div class="plots">{"".join(drawings)}</div>')
        parts.append(tables.to_html(tables.figures(summary, measure)))
    parts.append(f"{_heading(3, 'Environment')}{_facts(environment(run))}")
    return "".join(parts)


def _drawings(summary: Summary, measure: str) -> list[str]:
    """Against Services, against endpoints where there are several, and distributions at the largest size."""
    run = summary.run
    drawings = []
    if len({row.services for row in summary.rows[measure]}) > 1:
        for shared, rows in plots.slices(summary, measure):
            caption = ", ".join(["Median against the number of Services", *filter(None, [shared])])
            drawings.append(_figure(caption, plots.growth(summary, measure, rows)))
    for shared, rows in plots.slices(summary, measure, "endpoints"):
        drawing = plots.growth(summary, measure, rows, "endpoints")
        drawings.append(_figure(f"Median against endpoints of each Service, {shared}", drawing))
    for path in summary.paths:
        drawing = plots.distribution(summary, measure, run.sizes[-1], path, summary.endpoints[0])
        caption = f"Distribution at {count_of(run.sizes[-1])}"
        caption += "" if path == OTHER_NODE else f", {path}"
        drawings += [_figure(caption, drawing)] if drawing else []
    return drawings


def _heading(level: int, words: str, anchor: str = "") -> str:
    mark = f' id="{anchor}"' if anchor else ""
    return f"<h{level}{mark}>{escape(words)}</h{level}>"


def _anchor(summary: Summary, measure: str) -> str:
    return f"{summary.run.environment}-{measure}"


def _contents(summed: Sequence[Summary]) -> str:
    """Links to each measure of each environment."""
    parts = []
    for summary in summed:
        links = [
            f'<li><a href="#{_anchor(summary, measure)}">{escape(MEASURES[measure].title)}</a></li>'
            for measure in summary.rows
        ]
        name = escape(ENVIRONMENTS.get(summary.run.environment, summary.run.environment))
        parts.append(
            f"<details><summary>{name}: {len(links)} measures</summary><ul>{''.join(links)}</ul></details>"
        )
    return f'<nav aria-label="Measures">{"".join(parts)}</nav>'


def environment(run: Run) -> dict[str, str]:
    """Facts of the environment, the method's numbers and the prober's own cost, as text."""
    method = ", ".join(f"{name} {_plain(value)}" for name, value in run.method.items())
    of = unit(run.environment)
    cost = ", ".join(f"{name} {of.shown(value)} {of.name}" for name, value in run.overhead.items())
    return {**run.facts, "sampling": method, **({"prober's own cost": cost} if cost else {})}


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _facts(facts: Mapping[str, str]) -> str:
    return (
        "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v) + "</dl>"
    )


def _method(summed: Sequence[Summary]) -> str:
    measured = dict.fromkeys(measure for summary in summed for measure in summary.rows)
    widest = max((summary.run for summary in summed), key=lambda run: len(run.modes))
    said = []
    for name in measured:
        measure = MEASURES[name]
        said.append(
            f"<li><strong>{escape(measure.title)}.</strong> {escape(measure.definition)} "
            f"{escape(measure.caution)}</li>"
        )
    if widest.environment == INSTRUCTIONS:
        drawn, how = "", HOW_COUNTED
    elif widest.environment == FLEET:
        drawn, how = _figure("Two machines, one mode after the other", between(widest)), HOW_BETWEEN
    else:
        drawn, how = _figure("One cluster, a node for each mode, the same Services", picture(widest)), HOW
    return (
        f"<h2>What was measured, and how</h2>{drawn}<ul>{''.join(said)}</ul>"
        f"<p>{how}</p><p>{INTERVALS} {SEPARATE}</p>"
    )


def markdown(summed: Sequence[Summary], taken: str, picture: str = "") -> str:
    """The same for a CI summary or an issue: sentences and tables. `picture`: where one is."""
    parts = [f"# {HEADING}", page.when(taken)]
    parts += [f"![{pictures.TITLE}]({picture})"] if picture else []
    for summary in summed:
        parts.append(f"## {summary.title}")
        parts.append("\n".join(f"- {sentence}" for sentence in sentences(summary)))
        parts.append(tables.to_markdown(tables.overview(summary)))
        parts += [tables.to_markdown(tables.figures(summary, measure)) for measure in summary.rows]
        parts.append(
            "\n".join(f"- {name}: {fact}" for name, fact in environment(summary.run).items() if fact)
        )
    measured = dict.fromkeys(measure for summary in summed for measure in summary.rows)
    parts.append("## What was measured")
    for name in measured:
        measure = MEASURES[name]
        parts.append(f"**{measure.title}.** {measure.definition} {measure.caution}".strip())
    parts.append(f"{INTERVALS} {SEPARATE}")
    return "\n\n".join(part for part in parts if part) + "\n"


def terminal(summed: Sequence[Summary]) -> str:
    """The overview, the latencies and the sentences, for the end of a run."""
    parts = []
    for summary in summed:
        parts.append(f"== {summary.title} ==")
        shown = [measure for measure in summary.rows if measure in IN_TERMINAL or len(summary.rows) < FEW]
        parts += [tables.to_text(tables.figures(summary, measure, brief=True)) for measure in shown]
        parts.append(tables.to_text(tables.overview(summary)))
        parts.append("\n".join(f"* {sentence}" for sentence in sentences(summary)))
    return "\n\n".join(parts)


def write(directory: Path, summed: Sequence[Summary], taken: str) -> list[str]:
    """Leave report.html, .md, .svg and .png in `directory`: a line for each, or for what there is none of."""
    drawing = pictures.svg(summed)
    files = {"html": html(summed, taken), "md": markdown(summed, taken, "report.svg" if drawing else "")}
    files |= {"svg": drawing} if drawing else {}
    for suffix, content in files.items():
        (directory / f"report.{suffix}").write_text(content)
    lines = [str(directory / f"report.{suffix}") for suffix in files]
    if drawing:
        try:
            pictures.png(drawing, directory / "report.png")
            lines.append(str(directory / "report.png"))
        except TestbedError as error:
            lines.append(f"no report.png: {error}")
    return lines


def figures(summed: Sequence[Summary]) -> dict[str, Any]:
    """All rows as data, by environment and measure; each in its measure's unit."""
    return {
        summary.run.environment: {
            "environment": environment(summary.run),
            "measures": {name: [asdict(row) for row in rows] for name, rows in summary.rows.items()},
        }
        for summary in summed
    }
