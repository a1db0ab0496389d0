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
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from testbed.errors import UsageError
from testbed.model.families import VERSIONS, family
from testbed.model.offers import SCTP
from testbed.packets.columns import Column
from testbed.packets.guest import Guest
from testbed.packets.mutants import Score, in_words, joined, score
from testbed.packets.verdict import PASSED, Report, report, table, together

T = TypeVar("T")

MODES_HELP = (
    "proxy modes, in the order to switch; default all, iptables in both variants. iptables-legacy and "
    "iptables-nft are a variant; M@GLOB is only these cases in mode M, M@GLOB@GLOB what matches both"
)


FLEET = "fleet"
FAILURES = "results/failures"
FAILURES_HELP = "where packets and rules of a case that fails are kept (default %(default)s)"
ENV_HELP = (
    "auto (default): here, and at the same time in a VM what this kernel lacks; native; vm; fleet: on the "
    "machines of `testbed fleet status`"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--modes", metavar="M,…", help=MODES_HELP)
    parser.add_argument("--cases", default="*", metavar="GLOB", help="only the cases whose name matches")
    parser.add_argument(
        "--families",
        default="ipv4,ipv6",
        metavar="F,…",
        help="only the cases of these IP families (%(default)s)",
    )
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
    parser.add_argument("--env", choices=("auto", "native", "vm", "fleet"), default="auto", help=ENV_HELP)
    parser.add_argument("--repeat", type=_count, default=1, metavar="N", help="so many runs in a row")
    parser.add_argument("--failures", default=FAILURES, metavar="DIR", help=FAILURES_HELP)
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument(
        "-o", dest="output", choices=("table", "json"), default="table", help="default: table"
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def run(args: argparse.Namespace) -> int:
    from testbed.packets import columns
    from testbed.proxy.modes import NAMES

    if args.env == FLEET:
        _suit_fleet(args)
    text = columns.usual(NAMES) if args.modes is None else args.modes
    chosen = columns.parse(
        text, NAMES, args.cases, any_mode=bool(args.proxy_command), families=families_of(args.families)
    )
    if args.list:
        return listing(chosen)
    signal.signal(signal.SIGTERM, _interrupt)
    here, moved = parted(chosen, args.env)
    if args.env == "auto" or args.mutations:  # faults are looked for where the rest of a mode runs
        here, sctp = without_sctp(here)
        moved += [] if args.mutations else sctp
    if args.mutations:
        return _both(args, here, moved, _mutations, _score)
    worst = 0
    for number in range(args.repeat):
        if args.repeat > 1:
            _say(f"run {number + 1} of {args.repeat}")
        worst = max(worst, _both(args, here, moved, _verdicts, _verdict_report))
    return worst


def _suit_fleet(args: argparse.Namespace) -> None:
    """What needs a cluster of our own; then ask for the modes and families that the fleet has.

    Raises UsageError.
    """
    from testbed.packets import fleet

    for option in ("mutations", "proxy_command"):
        if getattr(args, option):
            raise UsageError(
                f"--env fleet checks the fleet's own agents: leave --{option.replace('_', '-')} out"
            )
    site = fleet.opened()
    args.modes = args.modes or ",".join(fleet.MODES)
    able = {family(version).lower() for version in site.spec.families}
    args.families = ",".join(name for name in args.families.split(",") if name.strip().lower() in able)
    if not args.families:
        raise UsageError(f"the fleet has {' and '.join(sorted(able))} only: see --families")


def families_of(text: str) -> list[int]:
    """`ipv4,ipv6`. Raises UsageError."""
    known = {family(version).lower(): version for version in VERSIONS}
    names = [word.strip().lower() for word in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"--families {name!r} is unknown; choose of {', '.join(known)}")
    return [known[name] for name in names]


def parted(chosen: Sequence[Column], env: str) -> tuple[list[Column], list[Column]]:
    """What runs here, and what in a VM: columns that this kernel cannot do, or all. Raises UsageError."""
    from testbed import vm
    from testbed.kernel import features
    from testbed.proxy.modes import KERNEL_FEATURE

    if env == FLEET:
        return list(chosen), []
    needs = {column.name: [KERNEL_FEATURE[column.mode]] for column in chosen if column.mode in KERNEL_FEATURE}
    lacking = {name: features.missing(needed) for name, needed in needs.items()}
    if vm.inside():
        return list(chosen), []
    if env == "vm":
        return [], list(chosen)
    moved = [column for column in chosen if lacking.get(column.name)]
    if moved and env == "native":
        name, (feature, *_) = moved[0].name, lacking[moved[0].name]
        raise UsageError(f"{name} needs {feature}, which this kernel lacks; leave --env out, and a VM has it")
    return [column for column in chosen if column not in moved], moved


def without_sctp(here: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    """What of `here` runs here, and what of it in a VM since this kernel has no SCTP."""
    from testbed.kernel import features
    from testbed.packets.columns import of_protocol, only, without

    if features.has("sctp"):
        return list(here), []
    rest = [without(column, SCTP) for column in here]
    moved = [only(column, SCTP) for column in here if of_protocol(column, SCTP)]
    return [column for column in rest if column.cases or column.live], moved


def _both(
    args: argparse.Namespace,
    here: Sequence[Column],
    moved: Sequence[Column],
    work: Callable[[argparse.Namespace, Sequence[Column]], T],
    show: Callable[[argparse.Namespace, list[T], float], int],
) -> int:
    """Work here and in a VM at the same time, and show what came out of both."""
    started = time.monotonic()
    with ExitStack() as stack:
        guest = stack.enter_context(Guest(command_line(args, moved))) if moved else None
        found = [work(args, here)] if here else []
        if guest:
            found.append(guest.result())
    return show(args, found, time.monotonic() - started)


def command_line(args: argparse.Namespace, columns: Sequence[Column]) -> list[str]:
    """This command again, for the VM: its result as JSON."""
    words = [sys.executable, "-m", "testbed.cli.main", "verify"]
    words += ["--modes", ",".join(column.text for column in columns)]
    words += ["--families", args.families, "--cases", args.cases, "--name", args.name, "-o", "json"]
    words += ["--failures", args.failures]
    words += ["--proxy-command", args.proxy_command] if args.proxy_command else []
    words += ["--mutations", args.mutations] if args.mutations else []
    return [*words, "--verbose"] if args.verbose else words


def _verdicts(args: argparse.Namespace, columns: Sequence[Column]) -> Report:
    from testbed.bench import environments
    from testbed.packets import fleet
    from testbed.packets.columns import version
    from testbed.packets.verification import Plan, verify

    on_fleet = args.env == FLEET
    plan = Plan(args.name, tuple(columns), args.proxy_command, failures=Path(args.failures), fleet=on_fleet)
    found = []
    with closing(verify(plan, _say)) as verdicts:
        for verdict in verdicts:
            found.append(verdict)
            if verdict.verdict != PASSED:
                _say(f"{verdict.verdict}: {verdict.mode} {verdict.case}")
                _say(f"    due:  {verdict.expected}\n    seen: {verdict.seen}")
    if on_fleet:
        return report(found, fleet.facts())
    return report(found, {"name": environments.here(), **environments.facts(), "iptables": version()})


def _verdict_report(args: argparse.Namespace, reports: list[Report], seconds: float) -> int:
    found = together(reports)
    if args.output == "json":
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print(f"{table(found)}\n{len(found['cases'])} cases in {seconds:.0f} s", flush=True)
    return int(any(case["verdict"] != PASSED for case in found["cases"]))


def _mutations(args: argparse.Namespace, columns: Sequence[Column]) -> Score:
    """Each fault with the case that caught it."""
    from testbed.packets.verification import Plan, mutate

    found = []
    plan = Plan(args.name, tuple(columns), args.proxy_command, faults=args.mutations)
    with closing(mutate(plan, _say)) as mutants:
        for mutant in mutants:
            found.append(mutant)
            _say(f"{mutant.mode} {mutant.fault}: {mutant.caught_by or 'NOT CAUGHT'}")
    return score(found)


def _score(args: argparse.Namespace, scores: list[Score], seconds: float) -> int:
    """Print the score of each mode. 1 when a fault was not caught."""
    found = joined(scores)
    if args.output == "json":
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print(f"{in_words(found)} in {seconds:.0f} s", flush=True)
    return int(found["caught"] < found["faults"])


def listing(columns: Sequence[Column]) -> int:
    """Print the names of the cases, and of the live ones."""
    names = dict.fromkeys(
        name for column in columns for name in (*(case.name for case in column.cases), *column.live)
    )
    print("\n".join(names))
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
