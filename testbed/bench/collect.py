"""A run in one environment: grow the cluster from size to size, sample at each, note what it all ran on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from testbed.bench import environments, objects, prober
from testbed.bench.measures import DIRECT, Plan, count_of
from testbed.bench.prober import Address
from testbed.bench.progress import Progress
from testbed.bench.quiet import settle
from testbed.bench.record import Cell, Programming, Run
from testbed.bench.sampling import Column, sample, spread
from testbed.bench.stage import BACKENDS, DEADLINE, Lab, grow, in_order, listed, stage
from testbed.bench.statistics import median
from testbed.bench.waiting import first_answer
from testbed.errors import TestbedError
from testbed.kernel.netns import Worker
from testbed.model.topology import CONTROL_PLANE

SETTLE = 60.0
"""Seconds that the cluster gets to become quiet after a step; what is left then stands in the report."""

UP, PER_SERVICE, PER_SAMPLE = 5.0, 0.005, 0.0006
"""Guessed seconds of work, for the time left: the cluster; a Service in all modes; a sample of each kind."""


@dataclass(frozen=True)
class PodProber:
    """`testbed.bench.prober` called in a Pod's namespace."""

    worker: Worker

    def new_connections(self, targets: list[Address]) -> list[tuple[float, float] | str]:
        return self.worker.call(prober.new_connections, targets)

    def open_connection(self, target: Address, requests: int) -> list[float]:
        return self.worker.call(prober.open_connection, target, requests)


def collect(plan: Plan) -> Run:
    """Bring the cluster up, grow it, sample it, take it down. Nothing is left, whatever happens."""
    name = environments.here()
    per_round = plan.samples * len(plan.columns) * PER_SAMPLE
    progress = Progress(
        f"bench ({name})",
        UP + plan.sizes[-1] * PER_SERVICE + (plan.blocks + 1) * per_round * len(plan.sizes),
    )
    progress.step(f"bringing up a cluster with a node for each of {', '.join(plan.modes)}")
    cells: list[Cell] = []
    busy = 0.0
    programming: list[Programming] = []
    with stage(plan.modes, progress.step) as lab:
        progress.advance(UP)
        for size in plan.sizes:
            progress.step(f"{count_of(size)}: writing them and waiting for the last to answer")
            added = size - len(lab.addresses)
            programming += asyncio.run(grow(lab, plan.modes, size))
            progress.advance(added * PER_SERVICE)
            progress.step(f"{count_of(size)}: waiting for the cluster to settle")
            busy = max(busy, settle((machine.init_pid for machine in lab.cluster.machines), SETTLE))
            progress.step(f"{count_of(size)}: sampling in {plan.blocks} rounds")
            columns = _columns(lab, plan, size)
            after = partial(progress.advance, per_round, f"{count_of(size)}: sampling")
            cells += sample(name, size, columns, plan, after, progress.step)
        facts = environments.facts() | _cluster_facts(lab)
        facts["load at the end"] = f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} CPUs"
        facts["the cluster's own load"] = f"{busy:.0%} of a CPU or less when sampling began"
        costs = lab.workers[DIRECT].call(prober.overhead, 200)
    return Run(
        name,
        facts,
        _method(plan),
        {what: median(values) for what, values in costs.items()},
        tuple(cells),
        tuple(programming),
    )


def _method(plan: Plan) -> dict[str, Any]:
    return {
        "rounds": plan.blocks,
        "samples a round": plan.samples,
        "seed": plan.seed,
        "backends": BACKENDS,
        "endpoints per Service": 1,
    }


def _columns(lab: Lab, plan: Plan, size: int) -> list[Column]:
    """Where each column probes: direct the first backend, a mode the Services spread over its own list."""
    columns = [Column(DIRECT, PodProber(lab.workers[DIRECT]), {"only": (lab.backends[0][0], objects.PORT)})]
    for mode in plan.modes:
        order = in_order(lab.addresses, listed(lab.cluster.machine(mode)) if mode == "iptables" else [])
        targets = {place: (order[index], objects.PORT) for place, index in spread(size).items()}
        columns.append(Column(mode, PodProber(lab.workers[mode]), targets))
    for column in columns:
        for target in column.targets.values():
            if lab.workers[column.mode].call(first_answer, target, DEADLINE) is None:
                raise TestbedError(f"{column.mode}: {target[0]}:{target[1]} does not answer")
    return columns


def _cluster_facts(lab: Lab) -> dict[str, str]:
    """Versions of what the modes are made of, as the nodes themselves say."""
    machine = lab.cluster.machine(CONTROL_PLANE)
    found = {"iptables": machine.run(["iptables", "--version"], check=False).stdout.strip()}
    if "nftables" in lab.workers:
        found["nftables"] = machine.run(["nft", "--version"], check=False).stdout.strip()
    ipvs = Path("/proc/net/ip_vs")
    if ipvs.exists() and "ipvs" in lab.workers:
        version = ipvs.read_text().splitlines()[0].partition(" (")[0]
        found["IPVS"] = f"{version}, scheduler {lab.cluster.spec.ipvs_scheduler}"
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
    found["backend"] = nginx.stderr.strip().removeprefix("nginx version: ")
    return found


def quick(plan: Plan, environment: str) -> Plan:
    """Sample counts that keep a whole run to a few minutes: fewer where code is translated and slow."""
    rounds, samples = {"native": (50, 18)}.get(environment, (20, 12))
    return replace(plan, blocks=rounds, samples=samples)
