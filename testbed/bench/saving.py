"""Leave a run that pytest did not collect in pytest-benchmark's format, with its reports beside it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_benchmark
from pytest_benchmark import stats as pytest_stats

from testbed.bench import report
from testbed.bench.plan import OTHER_NODE
from testbed.bench.record import Cell, Run, extra_info, load_results

_STATS: Any = pytest_stats.Stats


def save(directory: Path, runs: Sequence[Run]) -> str:
    """Write results.json and the reports; returns the report for the terminal, and what there is now."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "machine_info": {
            "node": " and ".join(run.environment for run in runs),
            "python_version": sys.version.split()[0],
            "environments": {run.environment: run.about() for run in runs},
        },
        "commit_info": {},
        "benchmarks": [_benchmark(cell) for run in runs for cell in run.cells],
        "datetime": datetime.now(UTC).isoformat(),
        "version": pytest_benchmark.__version__,
    }
    (directory / "results.json").write_text(json.dumps(content, indent=1))
    results = load_results(directory)  # what is reported is what was written
    summed = report.summaries(results)
    written = [*report.write(directory, summed, results.taken), str(directory / "results.json")]
    return "\n".join([report.terminal(summed), "", *written])


def identity(cell: Cell) -> str:
    """`first-packet-native-1000-iptables`, as benchmarks/ calls the same; axes at rest do not stand in it."""
    more = [f"{cell.endpoints}ep"] if cell.endpoints > 1 else []
    more += [cell.path] if cell.path != OTHER_NODE else []
    return "-".join([cell.measure, cell.environment, str(cell.services), *more, cell.mode])


def _benchmark(cell: Cell) -> dict[str, Any]:
    """One cell as pytest-benchmark's plugin would have written it."""
    stats: Any = _STATS()
    for sample in cell.samples:
        stats.update(cell.of.unit.seconds(sample))
    param = identity(cell)
    name = f"test[{param}]"
    axes = ("measure", "environment", "services", "endpoints", "path", "mode")
    return {
        "group": f"{cell.environment}: {cell.of.title}, Services {cell.services:6,}",
        "name": name,
        "fullname": f"benchmarks/test_comparison.py::{name}",
        "params": {axis: getattr(cell, axis) for axis in axes},
        "param": param,
        "extra_info": extra_info(cell),
        "options": {"disable_gc": True, "timer": "instructions", "min_rounds": len(cell.samples)},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }
