"""Does the matrix catch a faulty proxy? The agents of a live cluster get faults, one a family at a time.

What is sent over IPv4 meets no rule of the IPv6 proxier, and so two faults are hunted side by side.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

from testbed.errors import TestbedError
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.model.cases import Case, live_version
from testbed.model.families import version_of
from testbed.packets import lines
from testbed.packets.ground import Here
from testbed.packets.live import Live
from testbed.packets.matrix import ANSWER_SECONDS, HURRY_SECONDS, Stage
from testbed.packets.mutants import Mutant
from testbed.packets.native import Namespaces
from testbed.packets.noticing import notices
from testbed.packets.patience import until
from testbed.packets.verdict import PASSED, Verdict
from testbed.packets.ways import MTU_SECONDS
from testbed.proxy import faults

SYNC_SECONDS = 30.0
"""How long an agent may take to put its faulty rules in."""

HEALTH_PORT = 10256
OK = 200

NO_FAULT = ""

Given = Mapping[int, str]
"""The faults that agents have, by IP family."""


@dataclass(frozen=True)
class Hunt:
    """The cases that are to catch faults of agents in `mode`; `live`: names of live ones.

    `slow`: those that take their time without a fault, too, as the agents that have none show.
    """

    cluster: Cluster
    stage: Stage
    mode: str
    cases: Sequence[Case]
    live: Sequence[str] = ()
    slow: set[Case] = field(default_factory=set)

    def mutants(self, pattern: str = "*") -> Generator[Mutant, None, None]:
        """Each fault whose name matches `pattern`, and who caught it.

        Raises TestbedError when an agent does not come up with its fault, or a case fails without one.
        """
        versions = {case.version for case in self.cases} | {live_version(name) for name in self.live}
        found = self.caught(dict.fromkeys(versions, NO_FAULT))
        if verdict := found.get(NO_FAULT):
            raise TestbedError(
                f"{self.mode} {verdict.case} fails without a fault: {verdict.seen}; `testbed verify` it first"
            )
        for given in rounds(fnmatch.filter(faults.names(self.mode), pattern), self.live, sorted(versions)):
            found = self.caught(given)
            for fault in dict.fromkeys(given.values()):
                verdict = found.get(fault)
                yield Mutant(
                    self.mode, fault, verdict.case if verdict else "", verdict.seen if verdict else ""
                )

    def caught(self, given: Given) -> dict[str, Verdict]:
        """The first case that failed, by fault; of one that no case notices there is none."""
        self._give(given)
        found: dict[str, Verdict] = {}
        with closing(self._failed(given, found)) as failed:
            for verdict in failed:
                found.setdefault(given[version_of(verdict.family)], verdict)
                if found.keys() == set(given.values()):
                    break
        return found

    def _give(self, given: Given) -> None:
        """Restart the agents of the nodes that cases go through, and wait for their first sync."""
        workers = self.cluster.spec.workers
        names = [node.name for node in workers]
        self.cluster.set_proxy(self.mode, nodes=names, environment={faults.VARIABLE: faults.told(given)})
        for node in workers:
            machine = self.cluster.machine(node.name)
            if until(lambda machine=machine: synced(machine), SYNC_SECONDS) is None:  # type: ignore[misc]
                raise TestbedError(
                    f"{node.name} has no rules with fault {faults.told(given)}; its kube-proxy.log tells why"
                )

    def _failed(self, given: Given, found: Mapping[str, Verdict]) -> Generator[Verdict, None, None]:
        """First what the faults were made for, then everything: as long as some is not in `found`."""
        first = [case for case in self.cases if notices(given[case.version], case.name)]
        right = NO_FAULT in given.values()
        yield from self._at_rest(first, right)
        episode = any(notices(given[live_version(name)], name) for name in self.live)
        if episode:
            yield from self._in_motion(given)
        for part in in_parts([case for case in self.cases if case not in first]):
            yield from self._at_rest([case for case in part if given[case.version] not in found], right)
        if not episode:
            yield from self._in_motion(given)

    def _at_rest(self, cases: Sequence[Case], right: bool) -> Iterator[Verdict]:
        """Who fails must fail twice: a fault is there each time, a moment's delay is not.

        `right`: the agents have no fault, and what passes in the end is slow.
        """
        for case, verdict in zip(cases, self._asked(cases, HURRY_SECONDS), strict=True):
            if verdict.verdict == PASSED:
                continue
            if case.size:  # it may have been told of a narrow way a moment ago
                time.sleep(MTU_SECONDS + 0.1)
            seconds = ANSWER_SECONDS if right or case in self.slow else HURRY_SECONDS
            if next(self._asked([case], seconds)).verdict != PASSED:
                yield verdict
            elif right:
                self.slow.add(case)

    def _asked(self, cases: Sequence[Case], seconds: float) -> Iterator[Verdict]:
        return self.stage.verdicts(self.mode, cases, seconds=seconds)

    def _in_motion(self, given: Given) -> Iterator[Verdict]:
        if self.live:
            environment = {faults.VARIABLE: faults.told(given)}
            with closing(
                Live(Namespaces(self.cluster), self.stage, self.mode, environment=environment).verdicts()
            ) as found:
                yield from (one for one in found if one.verdict != PASSED and one.case in self.live)


def rounds(names: Sequence[str], live: Sequence[str], versions: Sequence[int]) -> Iterator[Given]:
    """Faults that are given together. Those that only a live case notices go together, since that takes time.

    The last one, if it is alone, is given in every family.
    """
    ordered = iter(sorted(names, key=lambda fault: any(notices(fault, name) for name in live)))
    while few := list(islice(ordered, len(versions))):
        yield {version: few[place % len(few)] for place, version in enumerate(versions)}


def in_parts(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases as they are asked together: those of one question first, as they catch most."""
    parts = [[case for case in cases if (case.count > 1) == many] for many in (False, True)]
    return [part for part in parts if part]


def synced(machine: Machine) -> bool | None:
    """Whether the agent of the machine has put its first rules in, None when not."""
    return Here(machine.netns).call(lines.status, "127.0.0.1", HEALTH_PORT, "/healthz") == OK or None
