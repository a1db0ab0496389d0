"""A run in one environment: grow the cluster from size to size, take all measures at each."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from testbed.bench import agents, environments, native, prober, tools
from testbed.bench.changes import CHANGE, RESTART
from testbed.bench.columns import DIRECT, Column
from testbed.bench.latency import LATENCY
from testbed.bench.load import CONNECT, ECHO, HOLD, REQUEST_, STREAM
from testbed.bench.measures import AGENT_CPU, AGENT_MEMORY, GROWTH, SYNC_PARTIAL, Measure, count_of
from testbed.bench.place import Usage
from testbed.bench.plan import OTHER_NODE, Plan
from testbed.bench.progress import Progress
from testbed.bench.quiet import settle
from testbed.bench.record import Cell, Run
from testbed.bench.sampling import Point, sample, spread
from testbed.bench.stage import BACKENDS, CHANGING, TOOLS, Stage, grow, staged
from testbed.bench.statistics import median
from testbed.bench.taking import Seat, Taking
from testbed.bench.waiting import first_answer
from testbed.bench.writing import DEADLINE
from testbed.errors import TestbedError
from testbed.model.topology import CONTROL_PLANE

TAKINGS = (LATENCY, CONNECT, REQUEST_, STREAM, ECHO, HOLD, CHANGE, RESTART)
"""In this order at each size: what stirs the agents up comes last."""

GROWING = (GROWTH, SYNC_PARTIAL, AGENT_CPU, AGENT_MEMORY)
KNOWN = tuple(m.name for m in (*GROWING, *(m for taking in TAKINGS for m in taking.measures)))
"""What can be measured in a cluster."""

SETTLE = 60.0
"""Seconds that the cluster gets to become quiet after a step; what is left then stands in the report."""

UP, PER_SERVICE = 5.0, 0.005
"""Guessed seconds of work, for the time left: the cluster; a Service in all modes."""


@dataclass
class Collector:
    """What a run has so far. `keep` is given the run after each size, so that little is lost with it."""

    plan: Plan
    keep: Callable[[Run], None] = lambda _: None
    cells: list[Cell] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=environments.facts)
    overhead: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0

    def __post_init__(self) -> None:
        self.profile = self.plan.profile
        self.takings = [taking for taking in TAKINGS if taking.names() & set(self.plan.measures)]
        self.progress = Progress(f"bench ({environments.here()})", self._work())

    def _work(self) -> float:
        seats = len(self.plan.names) * len(self.plan.paths)
        each = [
            taking.cost(self.profile) * (taking.rounds(self.profile) + taking.warm_up) * seats
            for size in self.plan.sizes
            for taking in self.takings_at(size)
        ]
        grown = UP + self.plan.sizes[-1] * PER_SERVICE
        return (sum(each) + grown) * len(self.plan.endpoints)

    def takings_at(self, size: int) -> list[Taking]:
        return [taking for taking in self.takings if taking.at(size, self.plan.sizes, self.profile)]

    def run(self) -> Run:
        """Everything so far."""
        asked = set(self.plan.measures)
        facts = {**self.facts, "load at the end": f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} CPUs"}
        facts["the cluster's own load"] = f"{self.busy:.0%} of a CPU or less when sampling began"
        return Run(
            environments.here(),
            facts,
            self._method(),
            self.overhead,
            tuple(cell for cell in self.cells if cell.measure in asked),
            self.plan.to_json(),
        )

    def _method(self) -> dict[str, Any]:
        return {
            "profile": self.profile.name,
            "rounds": self.profile.rounds,
            "samples a round": self.profile.samples,
            "bursts": f"{self.profile.bursts} of {self.profile.seconds:g} s",
            "seed": self.plan.seed,
            "backends": BACKENDS,
        }

    def collect(self) -> Run:
        """Bring clusters up, grow them, measure, take them down. Nothing is left, whatever happens."""
        if any(taking in self.takings for taking in (CONNECT, REQUEST_, STREAM, ECHO)):
            tools.need()
        for endpoints in self.plan.endpoints:
            names = ", ".join(column.name for column in self.plan.columns)
            self.progress.step(f"bringing up a cluster with a node for each of {names}")
            with ExitStack() as stack:
                site = stack.enter_context(native.site(self.plan.columns, self.progress.step))
                beside = [
                    name
                    for name, users in ((TOOLS, (STREAM, ECHO)), (CHANGING, (CHANGE,)))
                    if any(user in self.takings for user in users)
                ]
                columns = self.plan.columns
                stage = stack.enter_context(
                    staged(site, columns, endpoints, self.plan.paths, beside, self.progress.step)
                )
                if stage.server:
                    stage.server.call(tools.serve)
                self.progress.advance(UP)
                self.facts |= cluster_facts(stage)
                for size in self.plan.sizes:
                    if (size, endpoints) not in self.plan.done:
                        self._at(stage, Point(environments.here(), size, endpoints))
                        self.keep(self.run())
        return self.run()

    def _at(self, stage: Stage, point: Point) -> None:
        size = count_of(point.services)
        self.progress.step(f"{size}: writing them and waiting for the last to answer")
        self._grow(stage, point)
        if not self.overhead:
            costs = stage.places[DIRECT, OTHER_NODE].call(prober.overhead, 200)
            self.overhead = {what: median(values) for what, values in costs.items()}
        seats = self._seats(stage, point)
        stirred = False
        for taking in self.takings_at(point.services):
            if stirred:
                settle(stage.site.busy, SETTLE)
            titles = ", ".join(measure.title for measure in taking.measures[:1])
            self.progress.step(f"{size}: {titles}")
            after = partial(
                self.progress.advance, taking.cost(self.profile) * len(seats), f"{size}: {titles}"
            )
            self.cells += sample(
                point, taking, seats, self.profile, self.plan.seed, after, self.progress.step
            )
            stirred = taking in (CHANGE, RESTART)

    def _grow(self, stage: Stage, point: Point) -> None:
        before = {column.name: look(stage, column) for column in stage.columns}
        added = point.services - len(stage.addresses)
        took = asyncio.run(grow(stage, point.services))
        self.progress.advance(added * PER_SERVICE)
        self.progress.step(f"{count_of(point.services)}: waiting for the cluster to settle")
        self.busy = max(self.busy, settle(stage.site.busy, SETTLE))
        self._one(GROWTH, point, DIRECT, took[DIRECT])
        for column in stage.columns:
            (used, said), (now, says) = before[column.name], look(stage, column)
            self._one(GROWTH, point, column.name, took[column.name])
            self._one(AGENT_CPU, point, column.name, now.cpu - used.cpu)
            self._one(AGENT_MEMORY, point, column.name, now.rss / 2**20)
            if says:
                seconds, _ = agents.after(said, says, agents.SYNC)
                self._one(SYNC_PARTIAL, point, column.name, seconds * 1e3)

    def _one(self, measure: Measure, point: Point, column: str, value: float) -> None:
        """A cell of one sample."""
        self.cells.append(
            Cell(
                point.environment,
                measure.name,
                point.services,
                column,
                (float(f"{value:.9g}"),),
                (0,),
                ("all",),
                0,
                point.endpoints,
            )
        )

    def _seats(self, stage: Stage, point: Point) -> list[Seat]:
        """Where each column probes on each path; each target must answer before anything is timed."""
        seats = []
        for path in self.plan.paths:
            for column in (None, *stage.columns):
                place = stage.places[column.name if column else DIRECT, path]
                targets = stage.targets(column, path, spread(point.services))
                seats.append(Seat(column, path, place, targets, stage))
                for target in targets.values():
                    if place.call(first_answer, target, DEADLINE) is None:
                        raise TestbedError(f"{seats[-1].name}: {target[0]}:{target[1]} does not answer")
        return seats


def look(stage: Stage, column: Column) -> tuple[Usage, agents.Totals]:
    """What a column's agent has used so far, and what it says of itself."""
    with stage.site.node(column.name) as node:
        return stage.site.agent(column.name), node.call(agents.metrics)


def cluster_facts(stage: Stage) -> dict[str, str]:
    """Versions of what the modes are made of, as the nodes themselves say."""
    modes = {column.mode for column in stage.columns}
    found = {"iptables": stage.site.run(CONTROL_PLANE, ["iptables", "--version"]).strip()}
    if "nftables" in modes:
        found["nftables"] = stage.site.run(CONTROL_PLANE, ["nft", "--version"]).strip()
    ipvs = Path("/proc/net/ip_vs")
    if ipvs.exists() and "ipvs" in modes:
        version = ipvs.read_text().splitlines()[0].partition(" (")[0]
        found["IPVS"] = f"{version}, scheduler {stage.site.spec.ipvs_scheduler}"
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    found["backend"] = nginx.stderr.strip().removeprefix("nginx version: ")
    for program in ("wrk", "iperf3", "sockperf"):
        if shutil.which(program) and TOOLS in stage.services:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            found[program] = (said.stdout or said.stderr).strip().splitlines()[0].partition(" [")[0]
    return found
