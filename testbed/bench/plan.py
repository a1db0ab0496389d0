"""The plan of a run: columns, axes, measures, and how much of each; to JSON and back, to be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from testbed.bench.columns import DIRECT, Column
from testbed.errors import UsageError

MAX_SERVICES = 30_000
MAX_ENDPOINTS = 240
"""A node's Pod range is a /24, and each endpoint has an address of its own."""

OTHER_NODE, SAME_NODE, OUTSIDE = "other-node", "same-node", "outside"
PATHS = (OTHER_NODE, SAME_NODE, OUTSIDE)
"""A Pod to a backend on another node, a Pod to one on its own node, the client outside to a node port."""


@dataclass(frozen=True)
class Profile:
    """How much of everything. Sampled latencies in `rounds` of `samples`; bursts of `seconds` each.

    `changes`: in each of two rounds. `starts`: of each agent.
    """

    name: str
    sizes: tuple[int, ...]
    rounds: int
    samples: int
    bursts: int
    seconds: float
    changes: int
    starts: int
    endpoints: tuple[int, ...] = (1,)
    paths: tuple[str, ...] = (OTHER_NODE,)
    translated: bool = False
    """Whether it is for a VM that translates code."""
    switches: int = 3
    """On a fleet: how often it is switched to each mode, at each size."""
    turns: int = 3
    """After each switch: how often direct and the mode are visited in turn."""

    @property
    def quick(self) -> bool:
        return self.name == "quick"

    def where_translated(self) -> Profile:
        """The same for a VM that translates code: a fifth of the work, which takes as long.

        Bursts are longer: starting a program takes a tenth of a second there. The quick one stays at a
        hundred Services: writing a thousand, which all agents read, takes minutes.
        """
        less: dict[str, Any] = {"rounds": max(10, self.rounds // 4), "bursts": max(2, self.bursts // 2)}
        less |= {"changes": max(2, self.changes // 2), "seconds": max(1.0, self.seconds)}
        if self.quick:
            less["sizes"] = (100,)
        return replace(self, **less, translated=True)

    def on_a_fleet(self) -> Profile:
        """The same for machines, which may be emulated: the quick one stays at a hundred Services."""
        return replace(self, sizes=(100,)) if self.quick else self


QUICK = Profile("quick", (1, 100, 1000), 56, 18, 3, 0.3, 5, 1)
STANDARD = Profile("standard", (1, 1000, 5000, 10_000), 112, 18, 10, 1.0, 20, 5, switches=5, turns=8)
FULL = Profile(
    "full",
    (1, 100, 1000, 5000, 10_000, 30_000),
    112,
    36,
    20,
    2.0,
    30,
    10,
    (1, 10, 100),
    PATHS,
    switches=10,
    turns=10,
)
PROFILES = {profile.name: profile for profile in (QUICK, STANDARD, FULL)}


@dataclass(frozen=True)
class Plan:
    """What one run takes in one environment."""

    columns: tuple[Column, ...]
    sizes: tuple[int, ...]
    measures: tuple[str, ...]
    profile: Profile = QUICK
    endpoints: tuple[int, ...] = (1,)
    paths: tuple[str, ...] = (OTHER_NODE,)
    seed: int = 1
    done: tuple[tuple[int, int], ...] = ()
    """Points (Services, endpoints per Service) measured before: they are grown to, and passed."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that is compared, the base first."""
        return (DIRECT, *(column.name for column in self.columns))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in raw.items() if key in known
        }
        columns = tuple(Column(**column) for column in raw["columns"])
        done = tuple((services, endpoints) for services, endpoints in raw.get("done", ()))
        lists: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in raw["profile"].items()
        }
        return cls(**{**values, "columns": columns, "done": done, "profile": Profile(**lists)})


def numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    """`1,100,1000`, rising. Raises UsageError naming `option`."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(f"{option} {text!r}: give numbers, such as 1,10,100") from None
    if found[0] < 1 or found[-1] > most:
        raise UsageError(f"{option} {text!r}: each must be between 1 and {most:,}")
    return tuple(found)


def parse_sizes(text: str) -> tuple[int, ...]:
    return numbers("--services", text, MAX_SERVICES)


def parse_endpoints(text: str) -> tuple[int, ...]:
    return numbers("--endpoints", text, MAX_ENDPOINTS)


def parse_paths(text: str) -> tuple[str, ...]:
    """`other-node,outside`. Raises UsageError."""
    paths = tuple(part.strip() for part in text.split(",") if part.strip())
    for path in paths:
        if path not in PATHS:
            raise UsageError(f"unknown path {path!r}; known are {', '.join(PATHS)}")
    if not paths or len(set(paths)) < len(paths):
        raise UsageError(f"--paths {text!r}: name each once, such as other-node,outside")
    return paths
