"""The parts of a session: in which environments it measures, and which columns, sizes and measures there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed import vm
from testbed.bench import between, collect, counted, environments
from testbed.bench.columns import COLUMNS, DEFAULT, DIRECT, Column, columns
from testbed.bench.environments import FLEET
from testbed.bench.measures import MEASURES, RULES_LOAD
from testbed.bench.plan import OTHER_NODE, PATHS, Plan, Profile
from testbed.bench.units import INSTRUCTIONS
from testbed.errors import UsageError
from testbed.lab.fleet import Member
from testbed.model.offers import ZONES

AUTO, WALL = "auto", "wall"
CLOCKS = (AUTO, WALL, INSTRUCTIONS)
CLOCK_HELP = (
    "what a figure counts; auto (default): time, and instructions where modes must be compared in an "
    "emulated VM, whose times say little: the quick profile takes none there"
)


@dataclass(frozen=True)
class Part:
    """What is measured in one environment, and how much.

    `measures`: names of those that can be. `told`: lines about it. `matrix`: whether `testbed verify` can
    check it.
    """

    columns: tuple[Column, ...]
    sizes: tuple[int, ...]
    measures: tuple[str, ...]
    profile: Profile
    told: tuple[str, ...] = ()
    matrix: bool = True

    def takes(
        self, environment: str, measure: str, services: int, endpoints: int, path: str, mode: str
    ) -> bool:
        """Whether a run takes this at all: figures of an agent have no direct, some no other path;
        and the start of a data plane does not repeat."""
        if mode == DIRECT and MEASURES[measure].no_direct:
            return False
        if measure == RULES_LOAD.name and COLUMNS[mode].answers_itself:
            return False
        if environment in (INSTRUCTIONS, FLEET):
            return path == OTHER_NODE and endpoints == 1
        taking = next((one for one in collect.TAKINGS if measure in one.names()), None)
        if taking is None:
            return path == OTHER_NODE
        return taking.at(services, self.sizes, self.profile) and (taking.paths or path == OTHER_NODE)

    def plan(self, asked: Sequence[Mapping[str, Any]], done: Iterable[tuple[int, int]] = ()) -> Plan:
        """That of a run with all points of the axes that are `asked` for; `done` as in `Plan`."""

        def wanted(axis: str) -> set[Any]:
            return {point[axis] for point in asked}

        return Plan(
            tuple(one for one in self.columns if one.name in wanted("mode")) or self.columns,
            tuple(sorted(wanted("services"))),
            tuple(name for name in MEASURES if name in wanted("measure")),
            self.profile,
            tuple(sorted(wanted("endpoints"))),
            tuple(path for path in PATHS if path in wanted("path")),
            done=tuple(done),
        )


def parts(
    modes: str | None,
    proxies: Sequence[str],
    clock: str,
    env: str,
    profile: Profile,
    sizes: tuple[int, ...] | None = None,
) -> dict[str, Part]:
    """Environment → its part, in the order of running. None: what is usual there. Raises UsageError.

    The instruction clock is an environment of its own. In the quick profile it stands for a VM that is
    emulated: a mode that the running kernel cannot do is counted there and not timed.
    """
    if clock == INSTRUCTIONS:
        if env == FLEET:
            raise UsageError("--clock instructions counts in a VM: leave --env out, or use --clock wall")
        names = counted.parse_modes(modes) if modes else counted.MODES
        return {INSTRUCTIONS: Part(_rows(names), sizes or counted.SIZES, counted.KNOWN, profile)}
    every = columns(modes or ",".join(DEFAULT), proxies)
    nodes, silent = environments.machines(env)
    if nodes:
        able, much = between.measurable(every), profile.on_a_fleet()
        told = described(nodes)
        if unfit := {*ZONES} - {node.name for node in nodes if node.ready}:
            told += (f"the matrix is not checked: it needs nodes {' and '.join(sorted(unfit))}, too",)
        return {FLEET: Part(able, sizes or much.sizes, between.KNOWN, much, told, not unfit)}
    found: dict[str, Part] = {}
    missing = environments.lacking(every)
    for name, here in environments.choose(every, env, missing).items():
        much = profile.where_translated() if name == "vm" and vm.translates() else profile
        told = (silent,) if silent and not found else ()
        if "native" in found:
            told = (f"{_lacks(missing)}: all modes are compared in a VM as well",)
        found[name] = Part(here, sizes or much.sizes, collect.KNOWN, much, told)
    countable = counted.spelled(column.name for column in every)
    if clock == AUTO and env == AUTO and len(found) > 1 and countable and vm.translates():
        told = ("an emulated VM's times say little: instructions are counted as well",)
        if profile.quick and all(counted.spelled([name]) for name in missing):
            del found["vm"]
            told = (
                f"{_lacks(missing)}: instructions are counted in an emulated VM, whose times would say "
                "little (--clock wall takes them)",
            )
        found[INSTRUCTIONS] = Part(
            _rows(countable), sizes or profile.sizes, counted.SURE, profile, told, matrix=False
        )
    return found


def _lacks(missing: Mapping[str, str]) -> str:
    return f"the running kernel lacks {', '.join(sorted(set(missing.values())))}"


def described(nodes: Sequence[Member]) -> tuple[str, ...]:
    """The machines of a fleet, a line; and those that are left out, a line each."""
    ready = [f"{node.name} {node.kernel}" for node in nodes if node.ready]
    lost = [f"{node.name} is lost and left out: {node.why}" for node in nodes if not node.ready]
    return (f"the fleet has {len(ready)} machines that are Ready: {', '.join(ready)}", *lost)


def _rows(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(COLUMNS[name] for name in names)
