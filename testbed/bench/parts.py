"""The parts of a session: in which environments it measures, and which columns, sizes and measures there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed import vm
from testbed.bench import collect, counted, environments
from testbed.bench.columns import COLUMNS, DEFAULT, Column, columns
from testbed.bench.measures import MEASURES
from testbed.bench.plan import PATHS, Plan, Profile
from testbed.bench.units import INSTRUCTIONS

AUTO, WALL = "auto", "wall"
CLOCKS = (AUTO, WALL, INSTRUCTIONS)
CLOCK_HELP = (
    "what a figure counts; auto (default): time, and instructions as well where modes must be compared in an "
    "emulated VM, whose times say little"
)


@dataclass(frozen=True)
class Part:
    """What is measured in one environment, and how much. `measures`: names of those that can be."""

    columns: tuple[Column, ...]
    sizes: tuple[int, ...]
    measures: tuple[str, ...]
    profile: Profile

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

    The instruction clock is an environment of its own.
    """
    if clock == INSTRUCTIONS:
        names = counted.parse_modes(modes) if modes else counted.MODES
        return {INSTRUCTIONS: Part(_rows(names), sizes or counted.SIZES, counted.KNOWN, profile)}
    every = columns(modes or ",".join(DEFAULT), proxies)
    found = {}
    for name, here in environments.choose(every, env, environments.lacking(every)).items():
        much = profile.where_translated() if name == "vm" and vm.translates() else profile
        found[name] = Part(here, sizes or much.sizes, collect.KNOWN, much)
    countable = counted.spelled(column.name for column in every)
    if clock == AUTO and env == AUTO and len(found) > 1 and countable and vm.translates():
        found[INSTRUCTIONS] = Part(_rows(countable), sizes or profile.sizes, counted.SURE, profile)
    return found


def _rows(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(COLUMNS[name] for name in names)
