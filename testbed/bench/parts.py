"""The parts of a session: in which environments it measures, and which columns, sizes and measures there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from testbed import vm
from testbed.bench import collect, counted, environments
from testbed.bench.columns import COLUMNS, DEFAULT, Column, columns
from testbed.bench.plan import Profile
from testbed.bench.units import INSTRUCTIONS

AUTO, WALL = "auto", "wall"
CLOCKS = (AUTO, WALL, INSTRUCTIONS)
CLOCK_HELP = (
    "what a figure counts; auto (default): time, and instructions as well where modes must be compared in an "
    "emulated VM, whose times say little"
)


@dataclass(frozen=True)
class Part:
    """What is measured in one environment. `measures`: names of those that can be."""

    columns: tuple[Column, ...]
    sizes: tuple[int, ...]
    measures: tuple[str, ...]


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
        return {INSTRUCTIONS: Part(_rows(names), sizes or counted.SIZES, counted.KNOWN)}
    every = columns(modes or ",".join(DEFAULT), proxies)
    found = {
        name: Part(tuple(here), sizes or profile.sizes_in(name), collect.KNOWN)
        for name, here in environments.choose(every, env, environments.lacking(every)).items()
    }
    countable = counted.spelled(column.name for column in every)
    if clock == AUTO and env == AUTO and len(found) > 1 and countable and vm.translates():
        found[INSTRUCTIONS] = Part(_rows(countable), sizes or profile.sizes, counted.SURE)
    return found


def _rows(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(COLUMNS[name] for name in names)
