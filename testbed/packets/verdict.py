"""What became of a case, and of all of them: as JSON, as a table, put together from several environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from testbed.model.cases import Case

PASSED, FAILED, NOT_RUN = "passed", "failed", "not_run"
OUTCOMES = (PASSED, FAILED, NOT_RUN)


@dataclass(frozen=True)
class Verdict:
    """A row of `verify -o json`. `verdict`: passed, failed or not_run."""

    mode: str
    case: str
    source: str
    protocol: str
    family: str
    expected: str
    seen: str
    verdict: str

    @classmethod
    def of(cls, mode: str, case: Case, expected: str, seen: str, verdict: str) -> Verdict:
        return cls(mode, case.name, case.source, case.protocol, case.family, expected, seen, verdict)


Report = dict[str, Any]
"""The JSON of `verify -o json`: environment, environments, modes, cases."""


def report(verdicts: Sequence[Verdict], environment: Mapping[str, str]) -> Report:
    """Of one environment; its `name` and facts are told with it, and its name with each case."""
    name = environment["name"]
    cases = [{**asdict(verdict), "environment": name} for verdict in verdicts]
    return {
        "environment": dict(environment),
        "environments": {name: dict(environment)},
        "modes": _counts(cases),
        "cases": cases,
    }


def together(reports: Sequence[Report]) -> Report:
    """Of several environments, the first of which is this machine's own."""
    cases = [case for one in reports for case in one["cases"]]
    environments = {name: facts for one in reports for name, facts in one["environments"].items()}
    return {
        "environment": reports[0]["environment"],
        "environments": environments,
        "modes": _counts(cases),
        "cases": cases,
    }


def _counts(cases: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    counts = {case["mode"]: dict.fromkeys(OUTCOMES, 0) for case in cases}
    for case in cases:
        counts[case["mode"]][case["verdict"]] += 1
    return counts


def table(found: Report) -> str:
    """For each kind of case and source how many passed, in a column for each mode in each environment."""
    columns = list(dict.fromkeys((case["mode"], case["environment"]) for case in found["cases"]))
    rows: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
    for case in found["cases"]:
        row = rows.setdefault((case["case"].split("/")[0], case["source"]), {})
        for cells in (row, rows.setdefault(("all", ""), {})):
            cells.setdefault((case["mode"], case["environment"]), []).append(case["verdict"])
    rows["all", ""] = rows.pop(("all", ""), {})
    lines = [("to", "from", *(mode for mode, _ in columns))]
    if len(found["environments"]) > 1:
        lines.append(("", "", *(f"({environment})" for _, environment in columns)))
    lines += [(*key, *(_score(cells.get(column, [])) for column in columns)) for key, cells in rows.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*aligned, *(_where(facts) for facts in found["environments"].values())])


def _score(verdicts: Sequence[str]) -> str:
    """`12 passed`, and whatever else there was."""
    counts = {outcome: verdicts.count(outcome) for outcome in OUTCOMES}
    words = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items() if count]
    return ", ".join(words) or "-"


def _where(facts: Mapping[str, str]) -> str:
    told = [facts.get(key, "") for key in ("kernel", "processor", "iptables")]
    return f"{facts['name']}: {', '.join(text for text in told if text)}"
