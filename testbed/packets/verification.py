"""The whole matrix: a cluster of its own, switched from mode to mode while it lives, every case in each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.errors import TestbedError
from testbed.model.offers import LIVE, OFFERS, SCTP
from testbed.packets import leftovers, native
from testbed.packets.columns import Column, of_protocol, without
from testbed.packets.evidence import Evidence
from testbed.packets.live import Live
from testbed.packets.matrix import ANSWER_SECONDS, HURRY_SECONDS, Stage
from testbed.packets.mutants import Mutant
from testbed.packets.mutations import Hunt
from testbed.packets.site import Machine, Site
from testbed.packets.verdict import FAILED, NOT_RUN, PASSED, Verdict

LEFTOVERS = "leftovers"
COMMAND_SECONDS = 60.0
NO_SCTP = "this kernel has no SCTP; without --env and --mutations, a VM judges this case"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be verified. `command`: the proxy to check in place of the agent, as for `set_proxy`.

    `faults`: a pattern of names, for `mutate`. `failures`: where to keep what tells of a failed case.
    `fleet`: on the machines that are up, not on a cluster made for it.
    """

    name: str
    columns: tuple[Column, ...]
    command: str = ""
    faults: str = "*"
    failures: Path | None = None
    fleet: bool = False

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
    with _staged(plan, progress) as (site, stage):
        if plan.failures:
            evidence = Evidence(plan.failures, site)

            def keep(mode: str, case: str, packets: Mapping[str, Sequence[bytes]]) -> None:
                kept = evidence.keep(mode, case, packets)
                if kept:
                    progress(f"packets and rules of what failed: {kept}")

            stage.keep = keep
        for former, column in zip((None, *plan.columns), plan.columns, strict=False):
            progress(f"{column.name}: {len(column.cases) + len(column.live)} cases")
            yield from _in_column(site, stage, former, column, plan, progress)


def mutate(plan: Plan, progress: Progress) -> Generator[Mutant, None, None]:
    """Whether the cases catch each fault that an agent can be given, as far as `verify` otherwise.

    Raises TestbedError too when a case fails without a fault.
    """
    with native.staged(plan.name, plan.columns, plan.command, progress) as (site, stage):
        for former, column in zip((None, *plan.columns), plan.columns, strict=False):
            progress(f"{column.name}: without a fault, then with one after the other")
            if former:
                _switch(site, former, column, plan.command)
            hunt = Hunt(site.cluster, stage, column.mode, column.cases, column.live)
            yield from (replace(mutant, mode=column.name) for mutant in hunt.mutants(plan.faults))


@contextmanager
def _staged(plan: Plan, progress: Progress) -> Iterator[tuple[Site, Stage]]:
    if plan.fleet:
        from testbed.packets import fleet

        with fleet.staged(plan.columns, plan.services, progress) as (site, stage):
            yield site, stage
    else:
        with native.staged(plan.name, plan.columns, plan.command, progress, plan.services) as (
            namespaces,
            stage,
        ):
            yield namespaces, stage


def _in_column(
    site: Site, stage: Stage, former: Column | None, column: Column, plan: Plan, progress: Progress
) -> Iterator[Verdict]:
    """Switch from column `former` (None: it runs already) to `column` and run its cases."""
    for verdict in _switched(site, stage, former, column, plan, progress):
        yield replace(verdict, mode=column.name)


def _switched(
    site: Site, stage: Stage, former: Column | None, column: Column, plan: Plan, progress: Progress
) -> Iterator[Verdict]:
    mode = column.mode
    try:
        if former:
            _switch(site, former, column, plan.command)
            for node in site.spec.nodes:
                yield _leftovers(site, site.machine(node.name), former, column)
    except (TestbedError, OSError, subprocess.SubprocessError) as error:
        for case in column.cases:
            yield Verdict.of(mode, case, "", f"no switch to {column.name}: {error}", NOT_RUN)
        for name in column.live:
            why = f"no switch to {column.name}: {error}"
            yield Verdict(mode, name, "any", "any", "any", "", why, NOT_RUN)
        return
    for case in () if site.sctp else of_protocol(column, SCTP):
        yield Verdict.of(mode, case, "", NO_SCTP, NOT_RUN)
    column = column if site.sctp else without(column, SCTP)
    unsettled = stage.settle(mode, {case.service for case in column.cases} | set(LIVE if column.live else ()))
    if unsettled:
        others = f"{unsettled[0]} and {len(unsettled) - 1} others do not work"
        progress(f"{column.name}: the rules are not in: {others}")
    seconds = HURRY_SECONDS if unsettled else ANSWER_SECONDS
    with closing(Live(site, stage, mode, plan.command)) as live:
        if column.live:
            live.begin()
        yield from stage.verdicts(mode, column.cases, seconds=seconds)
        if column.live:
            yield from (verdict for verdict in live.verdicts() if verdict.case in column.live)


def _switch(site: Site, former: Column, column: Column, command: str) -> None:
    """Another mode on the live nodes. What the other variant of iptables has, no successor finds: it goes."""
    variant = column.variant or site.variant
    if variant != (former.variant or site.variant):
        site.choose_iptables(variant)
    site.set_proxy(column.mode, command=command)


def _leftovers(site: Site, machine: Machine, former: Column, column: Column) -> Verdict:
    variant = former.variant or site.variant

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
