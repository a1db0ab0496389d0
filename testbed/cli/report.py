"""Turn results into a page and Markdown again, or compare two runs of the same environment.

testbed report results/latest                     writes report.html and report.md beside results.json
testbed report results/latest --svg latency.svg   writes a picture, as those of the README
testbed report results/monday results/tuesday     prints what changed, and whether it is more than noise
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from testbed.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="DIR|FILE", help="results of `testbed bench`")
    parser.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="later results to compare with")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write only the picture, as SVG")
    parser.add_argument(
        "-o",
        dest="output",
        choices=("text", "markdown", "json"),
        default="text",
        help="form of what is printed",
    )


def run(args: argparse.Namespace) -> int:
    from testbed.bench import report
    from testbed.bench.record import load_results

    results = load_results(args.results)
    if not results.runs:
        raise UsageError(f"{args.results} holds no measurements; was the run interrupted?")
    if args.other:
        return _compare(args, results)
    summed = report.summaries(results)
    if args.svg:
        args.svg.write_text(report.svg(summed))
        print(args.svg)
        return 0
    directory = args.results if args.results.is_dir() else args.results.parent
    pages = report.write(directory, summed, results.taken)
    if args.output == "json":
        print(json.dumps(report.figures(summed)))
    else:
        print(report.terminal(summed) if args.output == "text" else report.markdown(summed, results.taken))
        print(f"\n{' '.join(map(str, pages))}")
    return 0


def _compare(args: argparse.Namespace, before: object) -> int:
    from testbed.bench import compare, tables
    from testbed.bench.record import Results, load_results

    assert isinstance(before, Results)
    pairs = compare.comparable(before, load_results(args.other))
    found = [table for old, new in pairs for table in compare.tables(old, new)]
    if args.output == "json":
        print(json.dumps([vars(table) for table in found]))
    else:
        form = tables.to_text if args.output == "text" else tables.to_markdown
        print("\n\n".join(form(table) for table in found))
    return 0
