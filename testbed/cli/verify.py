"""The NAT correctness matrix: real packets through real rules, each checked against what must happen to it.

Brings up a cluster of its own, switches its proxies from mode to mode, sends TCP and UDP from Pods, nodes and
an outside client to Services, node ports and Pods, captures what arrives where, and takes the cluster down.
Exit code 1 when a case failed. Examples:

  testbed verify --modes iptables,userspace --cases 'node-port/*/client/*'
  testbed verify --modes iptables -o json --proxy-command 'kube-proxy --kubeconfig {kubeconfig} \\
      --hostname-override {node} --proxy-mode {mode} --cluster-cidr 10.244.0.0/16'
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from testbed.errors import UsageError
from testbed.model.cases import CASES, LIVE_CASES, Case

if TYPE_CHECKING:
    from testbed.packets.matrix import Verdict

OUTCOMES = ("passed", "failed", "not_run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--modes", metavar="M,…", help="proxy modes, in the order to switch (default: all)")
    parser.add_argument("--cases", default="*", metavar="GLOB", help="only the cases whose name matches")
    parser.add_argument("--name", default="verify", help="name of the cluster to make (default verify)")
    parser.add_argument(
        "--proxy-command",
        default="",
        metavar="CMD",
        help="check this proxy and not the agent; {kubeconfig}, {node} and {mode} are filled in",
    )
    parser.add_argument(
        "--mutations",
        nargs="?",
        const="*",
        metavar="GLOB",
        help="check the matrix itself: give the agents one fault after the other; each must fail a case",
    )
    parser.add_argument(
        "-o", dest="output", choices=("table", "json"), default="table", help="default: table"
    )


def run(args: argparse.Namespace) -> int:
    from testbed import vm
    from testbed.proxy.modes import KERNEL_FEATURE

    modes = chosen_modes(args.modes, any_mode=bool(args.proxy_command))
    cases = chosen_cases(args.cases)
    features = [KERNEL_FEATURE[mode] for mode in modes if mode in KERNEL_FEATURE]
    if vm.needed(features):
        return vm.move(features, command_line(args, modes))
    if args.mutations:
        return _mutations(args, modes, cases)
    started = time.monotonic()
    verdicts = _verdicts(args, modes, cases)
    found = report(verdicts, modes)
    if args.output == "json":
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print(f"{table(found)}\n{len(verdicts)} cases in {time.monotonic() - started:.0f} s")
    return int(any(verdict.verdict != "passed" for verdict in verdicts))


def chosen_modes(text: str | None, *, any_mode: bool = False) -> tuple[str, ...]:
    """`iptables,ipvs` taken apart. Raises UsageError naming the known modes; `any_mode` takes others too."""
    from testbed.proxy.modes import NAMES

    modes = [mode.strip() for mode in text.split(",")] if text is not None else list(NAMES)
    for mode in modes:
        if not mode or (mode not in NAMES and not any_mode):
            raise UsageError(f"unknown proxy mode {mode!r}; known are {', '.join(NAMES)}")
    return tuple(dict.fromkeys(modes))


def chosen_cases(glob: str) -> tuple[Case, ...]:
    """The cases whose names match. Raises UsageError when there are none, live ones neither."""
    cases = tuple(case for case in CASES if fnmatchcase(case.name, glob))
    if not cases and not chosen_live(glob):
        raise UsageError(f"--cases {glob!r} matches none of {len(CASES)} cases; one is {CASES[0].name}")
    return cases


def chosen_live(glob: str) -> tuple[str, ...]:
    """The live cases whose names match."""
    return tuple(name for name in LIVE_CASES if fnmatchcase(name, glob))


def command_line(args: argparse.Namespace, modes: Sequence[str]) -> list[str]:
    """This command again, for the VM."""
    words = [sys.executable, "-m", "testbed.cli.main", "verify", "--modes", ",".join(modes)]
    words += ["--cases", args.cases, "--name", args.name, "-o", args.output]
    words += ["--proxy-command", args.proxy_command] if args.proxy_command else []
    words += ["--mutations", args.mutations] if args.mutations else []
    return [*words, "--verbose"] if args.verbose else words


def _verdicts(args: argparse.Namespace, modes: tuple[str, ...], cases: tuple[Case, ...]) -> list[Verdict]:
    from testbed.packets.verification import Plan, verify

    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan(args.name, modes, cases, args.proxy_command, live=chosen_live(args.cases))
    found = []
    with closing(verify(plan, _say)) as verdicts:
        for verdict in verdicts:
            found.append(verdict)
            if verdict.verdict != "passed":
                _say(f"{verdict.verdict}: {verdict.mode} {verdict.case}")
                _say(f"    due:  {verdict.expected}\n    seen: {verdict.seen}")
    return found


def _mutations(args: argparse.Namespace, modes: tuple[str, ...], cases: tuple[Case, ...]) -> int:
    """Print each fault with the case that caught it, and the score. 1 when one was not caught."""
    from testbed.packets.verification import Plan, mutate

    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan(args.name, modes, cases, faults=args.mutations, live=chosen_live(args.cases))
    found = []
    with closing(mutate(plan, _say)) as mutants:
        for mutant in mutants:
            found.append(mutant)
            _say(f"{mutant.mode} {mutant.fault}: {mutant.caught_by or 'NOT CAUGHT'}")
    caught = sum(bool(mutant.caught_by) for mutant in found)
    if args.output == "json":
        score = {"caught": caught, "faults": len(found), "mutants": [asdict(mutant) for mutant in found]}
        print(json.dumps(score, indent=1, ensure_ascii=False))
    else:
        print(f"{caught} of {len(found)} faults caught")
    return int(caught < len(found))


def report(verdicts: Sequence[Verdict], modes: Sequence[str]) -> dict[str, Any]:
    """The JSON of `-o json`."""
    from testbed.bench import environments

    counts = {mode: dict.fromkeys(OUTCOMES, 0) for mode in modes}
    for verdict in verdicts:
        counts[verdict.mode][verdict.verdict] += 1
    return {
        "environment": {"name": environments.here(), **environments.facts(), "iptables": _iptables()},
        "modes": counts,
        "cases": [asdict(verdict) for verdict in verdicts],
    }


def _iptables() -> str:
    """The variant that the nodes use: they see this machine's programs."""
    path = shutil.which("iptables", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return subprocess.run([path, "--version"], capture_output=True, text=True).stdout.strip() if path else ""


def table(found: dict[str, Any]) -> str:
    """What went wrong, and for each kind of case and source how many passed in each mode."""
    modes = list(found["modes"])
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for case in found["cases"]:
        key = (case["case"].split("/")[0], case["source"])
        rows.setdefault(key, {}).setdefault(case["mode"], []).append(case["verdict"])
    lines = [("to", "from", *modes)]
    lines += [(*key, *(_score(by_mode.get(mode, [])) for mode in modes)) for key, by_mode in rows.items()]
    lines.append(("all", "", *(_score_of(found["modes"][mode]) for mode in modes)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _score(verdicts: Sequence[str]) -> str:
    return _score_of({outcome: verdicts.count(outcome) for outcome in OUTCOMES})


def _score_of(counts: dict[str, int]) -> str:
    """`12 passed`, and whatever else there was."""
    words = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items() if count]
    return ", ".join(words) or "-"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
