"""The record of a run: samples with where they came from, and the environment; to JSON and back.

A collector in one environment leaves a `Run`. The results file of a whole session is pytest-benchmark's
JSON: each benchmark's `stats.data` holds the raw samples in seconds, its `extra_info` the rest of the `Cell`,
and `machine_info.environments` what else a `Run` has. So pytest-benchmark reads and compares the same file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from testbed.bench.measures import MEASURES, Measure
from testbed.bench.plan import OTHER_NODE
from testbed.errors import UsageError

Key = tuple[str, str, int, str, int, str]
"""(environment, measure, Services, column, endpoints per Service, path)"""

FORMAT = 2
"""Raised when a reader of older files would go wrong."""


@dataclass(frozen=True)
class Cell:
    """All samples of one measure, in its unit, at one point of the axes, in one column of one run.

    `blocks[i]` is the round in which sample i was taken, `positions[i]` where in the list its Service stood.
    """

    environment: str
    measure: str
    services: int
    mode: str
    samples: tuple[float, ...]
    blocks: tuple[int, ...]
    positions: tuple[str, ...]
    lost: int = 0
    """How many samples more were tried and got no answer, or a wrong one."""

    endpoints: int = 1
    path: str = OTHER_NODE

    @property
    def key(self) -> Key:
        return (self.environment, self.measure, self.services, self.mode, self.endpoints, self.path)

    def beside(self, mode: str) -> Key:
        """The key of another column at the same point."""
        return (self.environment, self.measure, self.services, mode, self.endpoints, self.path)

    @property
    def of(self) -> Measure:
        return MEASURES[self.measure]

    def at(self, position: str) -> Cell:
        """Only the samples whose Service stood at `position`."""
        keep = [i for i, own in enumerate(self.positions) if own == position]
        return replace(
            self,
            samples=tuple(self.samples[i] for i in keep),
            blocks=tuple(self.blocks[i] for i in keep),
            positions=tuple(self.positions[i] for i in keep),
        )


@dataclass(frozen=True)
class Run:
    """One environment's part: facts about it, how it was sampled, its cells.

    `facts`: kernel, engine, iptables, versions, processor …, as text, in the order to print them.
    `overhead`: what the prober itself costs, name → median µs.
    """

    environment: str
    facts: Mapping[str, str]
    method: Mapping[str, Any] = field(default_factory=dict)
    overhead: Mapping[str, float] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, so that it can be again; see `testbed.bench.plan`."""

    def cell(
        self, measure: str, services: int, mode: str, endpoints: int = 1, path: str = OTHER_NODE
    ) -> Cell | None:
        key = (self.environment, measure, services, mode, endpoints, path)
        return self._by_key.get(key)

    @cached_property
    def _by_key(self) -> dict[Key, Cell]:
        return {cell.key: cell for cell in self.cells}

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({cell.services for cell in self.cells}))

    @property
    def modes(self) -> tuple[str, ...]:
        """In the order in which they were recorded, `direct` first."""
        return tuple(dict.fromkeys(cell.mode for cell in self.cells))

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.measure for cell in self.cells))

    def about(self) -> dict[str, Any]:
        """Everything but the cells, for `machine_info.environments`."""
        return {
            "facts": dict(self.facts),
            "method": dict(self.method),
            "overhead": dict(self.overhead),
            "plan": dict(self.plan),
        }

    @classmethod
    def from_about(cls, environment: str, about: Mapping[str, Any], cells: Sequence[Cell]) -> Run:
        return cls(
            environment,
            about["facts"],
            about["method"],
            about["overhead"],
            tuple(cells),
            about.get("plan", {}),
        )


def dump_run(run: Run) -> str:
    """What a collector prints: one line of JSON."""
    cells = [vars(cell) for cell in run.cells]
    return json.dumps({"format": FORMAT, "environment": run.environment, **run.about(), "cells": cells})


def load_run(text: str) -> Run:
    """The inverse of `dump_run`. Raises ValueError or KeyError for anything else."""
    raw = json.loads(text)
    cells = [
        Cell(
            **{
                **cell,
                "samples": tuple(cell["samples"]),
                "blocks": tuple(cell["blocks"]),
                "positions": tuple(cell["positions"]),
            }
        )
        for cell in raw["cells"]
    ]
    return Run.from_about(raw["environment"], raw, cells)


@dataclass(frozen=True)
class Results:
    """A whole session: a run for each environment, in the order in which they were taken."""

    runs: tuple[Run, ...]
    taken: str = ""
    """When, ISO 8601."""


def extra_info(cell: Cell) -> dict[str, Any]:
    """What pytest-benchmark keeps of a cell beside the samples."""
    names = ("environment", "measure", "services", "mode", "lost", "endpoints", "path")
    info = {name: getattr(cell, name) for name in names} | {"unit": cell.of.unit.name}
    return {**info, "blocks": list(cell.blocks), "positions": list(cell.positions)}


def load_results(path: Path) -> Results:
    """Results from a results file, or from the directory that holds one. Raises UsageError.

    What another version measured, and this one does not, is left out, and said so.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        raw = json.loads(file.read_text())
    except OSError as error:
        raise UsageError(
            f"no results at {file}: {error.strerror}; `testbed bench -o DIR` makes some"
        ) from None
    except ValueError:
        raise UsageError(f"{file} is not JSON; give a results.json of `testbed bench`") from None
    try:
        if gone := {one["extra_info"]["measure"] for one in raw["benchmarks"]} - {*MEASURES}:
            names = ", ".join(sorted(gone))
            print(f"{file}: left out what this version does not measure: {names}", file=sys.stderr)
        return _results(raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file} is not a results file of `testbed bench`, or was saved without its samples "
            f"(--benchmark-save needs --benchmark-save-data): {type(error).__name__} {error}"
        ) from None


def _results(raw: Mapping[str, Any]) -> Results:
    cells: dict[str, list[Cell]] = {}
    for benchmark in raw["benchmarks"]:
        info = benchmark["extra_info"]
        if info["measure"] not in MEASURES:
            continue
        of = MEASURES[info["measure"]].unit
        cell = Cell(
            info["environment"],
            info["measure"],
            info["services"],
            info["mode"],
            tuple(float(f"{of.value(seconds):.9g}") for seconds in benchmark["stats"]["data"]),
            tuple(info["blocks"]),
            tuple(info["positions"]),
            info["lost"],
            info.get("endpoints", 1),
            info.get("path", OTHER_NODE),
        )
        cells.setdefault(cell.environment, []).append(cell)
    abouts = raw["machine_info"]["environments"]
    return Results(
        tuple(Run.from_about(name, abouts[name], found) for name, found in cells.items()),
        raw.get("datetime", ""),
    )
