"""Faults given to agents, and which case caught each: the score of the matrix itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Score = dict[str, Any]
"""The JSON of `verify --mutations -o json`: caught, faults, modes (each with both), mutants."""


@dataclass(frozen=True)
class Mutant:
    """A fault and the first case that failed because of it, "" if none did. `seen`: what that case saw."""

    mode: str
    fault: str
    caught_by: str
    seen: str


def score(mutants: Sequence[Mutant]) -> Score:
    return _score([asdict(mutant) for mutant in mutants])


def joined(scores: Sequence[Score]) -> Score:
    """Of several environments."""
    return _score([mutant for one in scores for mutant in one["mutants"]])


def _score(mutants: Sequence[dict[str, str]]) -> Score:
    modes: dict[str, dict[str, int]] = {}
    for mutant in mutants:
        counts = modes.setdefault(mutant["mode"], {"caught": 0, "faults": 0})
        counts["faults"] += 1
        counts["caught"] += bool(mutant["caught_by"])
    caught = sum(counts["caught"] for counts in modes.values())
    return {"caught": caught, "faults": len(mutants), "modes": modes, "mutants": list(mutants)}


def in_words(found: Score) -> str:
    lines = [
        f"{mode}: {one['caught']} of {one['faults']} faults caught" for mode, one in found["modes"].items()
    ]
    return "\n".join([*lines, f"{found['caught']} of {found['faults']} faults caught"])
