"""The whole matrix: a cluster of its own, switched from mode to mode while it lives, every case in each."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.errors import TestbedError
from testbed.kernel import features
from testbed.lab import rootfs
from testbed.lab.bringup import bring_up
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.lab.spec import resolve
from testbed.model.offers import LIVE, OFFERS, SCTP, ZONES
from testbed.model.oracle import ZONE
from testbed.packets import leftovers, scene, ways
from testbed.packets.columns import Column, of_protocol, own_variant, without
from testbed.packets.evidence import Evidence
from testbed.packets.live import Live
from testbed.packets.matrix import ANSWER_SECONDS, HURRY_SECONDS, Stage
from testbed.packets.mutants import Mutant
from testbed.packets.mutations import Hunt
from testbed.packets.verdict import FAILED, NOT_RUN, PASSED, Verdict

LEFTOVERS = "leftovers"
COMMAND_SECONDS = 60.0
NO_SCTP = "this kernel has no SCTP; without --env and --mutations, a VM judges this case"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be verified. `command`: the proxy to check in place of the agent, as for `set_proxy`.

    `faults`: a pattern of names, for `mutate`. `failures`: where to keep what tells of a failed case.
    """

    name: str
    columns: tuple[Column, ...]
    command: str = ""
    faults: str = "*"
    failures: Path | None = None

    @property
    def services(self) -> Collection[str]:
        """Those that its cases are about; all where the scene will change."""
        if any(column.live for column in self.columns):
            return OFFERS
        asked = {case.service for column in self.columns for case in column.cases}
        return [name for name in OFFERS if name in asked]


def verify(plan: Plan, progress: Progress) -> Generator[Verdict, None, None]:
    """Verdicts as they come. The cluster is gone when the iterator ends or is closed, whatever happened.

    Raises UsageError or TestbedError when the cluster or the scene does not come up.
    """
    with _staged(plan, progress, plan.services) as (cluster, stage):
        if plan.failures:
            evidence = Evidence(plan.failures, cluster)

            def keep(mode: str, case: str, packets: Mapping[str, Sequence[bytes]]) -> None:
                kept = evidence.keep(mode, case, packets)
                if kept:
                    progress(f"packets and rules of what failed: {kept}")

            stage.keep = keep
        for former, column in zip((None, *plan.columns), plan.columns, strict=False):
            progress(f"{column.name}: {len(column.cases) + len(column.live)} cases")
            yield from _in_column(cluster, stage, former, column, plan, progress)


def mutate(plan: Plan, progress: Progress) -> Generator[Mutant, None, None]:
    """Whether the cases catch each fault that an agent can be given, as far as `verify` otherwise.

    Raises TestbedError too when a case fails without a fault.
    """
    with _staged(plan, progress) as (cluster, stage):
        for former, column in zip((None, *plan.columns), plan.columns, strict=False):
            progress(f"{column.name}: without a fault, then with one after the other")
            if former:
                _switch(cluster, former, column, plan.command)
            hunt = Hunt(cluster, stage, column.mode, column.cases, column.live)
            yield from (replace(mutant, mode=column.name) for mutant in hunt.mutants(plan.faults))


@contextmanager
def _staged(
    plan: Plan, progress: Progress, services: Collection[str] = OFFERS
) -> Iterator[tuple[Cluster, Stage]]:
    """A cluster with the scene on it, in the first of the modes."""
    wishes = {
        "name": plan.name,
        "nodes": [{"name": node, "labels": {ZONE: zone}} for node, zone in ZONES.items()],
        "proxy_mode": plan.columns[0].mode,
        "proxy_command": plan.command,
        "iptables": plan.columns[0].variant or "auto",
    }
    cluster = bring_up(resolve(wishes, tuple(column.mode for column in plan.columns)), progress=progress)
    try:
        progress("Pods and Services")
        world = scene.build(cluster.kubeconfig, cluster.spec, _prepare_reading, services)
        places = ways.places(cluster, world)
        ways.prepare(cluster, world, places)
        with Stage(world, places) as stage:
            yield cluster, stage
    finally:
        cluster.state.destroy()


def _prepare_reading() -> None:
    importlib.import_module("testbed.packets.dissection")


def _in_column(
    cluster: Cluster, stage: Stage, former: Column | None, column: Column, plan: Plan, progress: Progress
) -> Iterator[Verdict]:
    """Switch from column `former` (None: it runs already) to `column` and run its cases."""
    for verdict in _switched(cluster, stage, former, column, plan, progress):
        yield replace(verdict, mode=column.name)


def _switched(
    cluster: Cluster, stage: Stage, former: Column | None, column: Column, plan: Plan, progress: Progress
) -> Iterator[Verdict]:
    mode = column.mode
    try:
        if former:
            _switch(cluster, former, column, plan.command)
            for node in cluster.spec.nodes:
                yield _leftovers(cluster.machine(node.name), former, column)
    except (TestbedError, OSError, subprocess.SubprocessError) as error:
        for case in column.cases:
            yield Verdict.of(mode, case, "", f"no switch to {column.name}: {error}", NOT_RUN)
        for name in column.live:
            why = f"no switch to {column.name}: {error}"
            yield Verdict(mode, name, "any", "any", "any", "", why, NOT_RUN)
        return
    sctp = features.has("sctp")
    for case in () if sctp else of_protocol(column, SCTP):
        yield Verdict.of(mode, case, "", NO_SCTP, NOT_RUN)
    column = column if sctp else without(column, SCTP)
    unsettled = stage.settle(mode, {case.service for case in column.cases} | set(LIVE if column.live else ()))
    if unsettled:
        others = f"{unsettled[0]} and {len(unsettled) - 1} others do not work"
        progress(f"{column.name}: the rules are not in: {others}")
    seconds = HURRY_SECONDS if unsettled else ANSWER_SECONDS
    with closing(Live(cluster, stage, mode, plan.command)) as live:
        if column.live:
            live.begin()
        yield from stage.verdicts(mode, column.cases, seconds=seconds)
        if column.live:
            yield from (verdict for verdict in live.verdicts() if verdict.case in column.live)


def _switch(cluster: Cluster, former: Column, column: Column, command: str) -> None:
    """Another mode on the live nodes. What the other variant of iptables has, no successor finds: it goes."""
    variant = column.variant or own_variant()
    if variant != (former.variant or own_variant()):
        cluster.set_proxy("none")
        for node in cluster.spec.nodes:
            machine = cluster.machine(node.name)
            machine.run([sys.executable, "-m", "testbed.cli.main", "kube-proxy", "--cleanup"])
            rootfs.choose_iptables(variant, machine.root)
    cluster.set_proxy(column.mode, command=command)


def _leftovers(machine: Machine, former: Column, column: Column) -> Verdict:
    variant = former.variant or own_variant()

    def run(argv: Sequence[str]) -> str:
        return _output(machine, [argv[0].replace("tables-save", f"tables-{variant}-save"), *argv[1:]])

    successor = column.mode if former.variant == column.variant else ""
    left = leftovers.remaining(former.mode, run, successor)
    seen = ", ".join(left[:5]) + f" and {len(left) - 5} more" * (len(left) > 5) if left else "nothing"
    name = f"{LEFTOVERS}/{former.name}/{machine.name}"
    due = f"nothing of {former.name} mode"
    return Verdict(column.mode, name, machine.name, "any", "any", due, seen, FAILED if left else PASSED)


def _output(machine: Machine, argv: Sequence[str]) -> str:
    try:
        return machine.run(argv, check=False, timeout=COMMAND_SECONDS).stdout
    except FileNotFoundError:
        return ""
