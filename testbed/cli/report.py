"""Turn results into a page and Markdown again, or compare two runs of the same environment.

testbed report results/latest                     writes report.html, .md, .svg and .png beside results.json
testbed report results/latest --svg latency.svg   writes a picture, as those of the README; --png: as PNG
testbed report results/monday results/tuesday     prints what changed, and whether it is more than noise
testbed report monday tuesday --html changes.html writes that as a page
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.bench.record import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="DIR|FILE", help="results of `testbed bench`")
    parser.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="later results to compare with")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write only the picture, as SVG")
    parser.add_argument(
        "--png", type=Path, metavar="FILE", help="the same as PNG, by Chromium if there is one"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="of two results: write a page, too")
    parser.add_argument(
        "-o",
        dest="output",
        choices=("text", "markdown", "json"),
        default="text",
        help="form of what is printed",
    )


def run(args: argparse.Namespace) -> int:
    from testbed.bench import pictures, report
    from testbed.bench.record import load_results

    results = load_results(args.results)
    if not results.runs:
        raise UsageError(f"{args.results} holds no measurements; was the run interrupted?")
    if args.other:
        return _compare(args, results)
    if args.html:
        raise UsageError("--html is for two results: one alone has report.html beside it")
    summed = report.summaries(results)
    if args.svg or args.png:
        return _draw(args, pictures.svg(summed))
    directory = args.results if args.results.is_dir() else args.results.parent
    pages = report.write(directory, summed, results.taken)
    if args.output == "json":
        print(json.dumps(report.figures(summed)))
    else:
        print(report.terminal(summed) if args.output == "text" else report.markdown(summed, results.taken))
        print("\n" + "\n".join(pages))
    return 0


def _draw(args: argparse.Namespace, drawing: str) -> int:
    from testbed.bench import pictures

    if not drawing:
        raise UsageError(f"{args.results} has nothing to draw: {', '.join(pictures.PICTURED)} are drawn")
    if args.svg:
        args.svg.write_text(drawing)
    if args.png:
        pictures.png(drawing, args.png)
    print("\n".join(str(file) for file in (args.svg, args.png) if file))
    return 0


def _compare(args: argparse.Namespace, before: Results) -> int:
    from testbed.bench import compare, difference
    from testbed.bench.record import load_results

    after = load_results(args.other)
    pairs = compare.comparable(before, after)
    found = [table for old, new in pairs for table in compare.tables(old, new)]
    if args.html:
        args.html.write_text(difference.html(found, before.taken, after.taken))
    if args.output == "json":
        print(json.dumps([vars(table) for table in found]))
    else:
        print(difference.text(found) if args.output == "text" else difference.markdown(found))
    if args.html:
        print(f"\n{args.html}", file=sys.stderr)
    return 0
