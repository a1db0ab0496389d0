"""Measure and compare proxy modes, or proxies of your own, at growing numbers of Services.

Runs the benchmarks of the checkout under pytest-benchmark and leaves results.json and report.html, .md, .svg
and .png. A fleet that is up is measured; else this machine is, and a mode that its kernel cannot do moves the
comparison into a small VM by itself. Ctrl-C keeps what was measured; --resume goes on from there.

--clock instructions counts the instructions of a new connection in a small VM instead of timing it: figures
that repeat to half a percent on any machine, however busy.

    testbed bench
    testbed bench -k first-packet --modes iptables-legacy,iptables-nft,nftables
    testbed bench --clock instructions --services 1,1000,10000 -o results/counted
    testbed bench --profile standard --paths other-node,outside --endpoints 1,10
    testbed bench --proxy kp='/path/kube-proxy --kubeconfig {kubeconfig} --hostname-override {node}'
    testbed bench --self-test
    testbed bench --repeat results/monday -o results/tuesday
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, UsageError

NOTHING_SELECTED = 5
"""How pytest ends when no test was selected."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--modes",
        metavar="M,…",
        help="default: iptables,ipvs,nftables,userspace; counted: both variants of iptables and HAProxy, too",
    )
    add(
        "--proxy",
        action="append",
        default=[],
        metavar="NAME=CMD",
        help="a column more: nodes run this command; {kubeconfig}, {node} are filled in",
    )
    add("--services", metavar="N,…", help="default: the profile's; counted: 1,1000,10000")
    add("--endpoints", metavar="N,…", help="endpoints of each Service; default: 1")
    add("--paths", metavar="P,…", help="other-node (default), same-node, outside")
    add("-k", dest="measure", default="", metavar="EXPR", help="only measures that match, as pytest's -k")
    add(
        "--profile",
        choices=("quick", "standard", "full"),
        default="quick",
        help="how much of everything; default: %(default)s",
    )
    add(
        "--clock",
        choices=("auto", "wall", "instructions"),
        default="auto",
        help="what a figure counts; auto: time, and instructions as well where a VM has to be emulated",
    )
    add(
        "--env",
        choices=("auto", "fleet", "native", "vm"),
        default="auto",
        help="auto: the fleet that is up, or this machine, and a VM for what its kernel lacks",
    )
    add("-o", dest="output", type=Path, metavar="DIR", help="default: results/latest or results/instructions")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--repeat", type=Path, metavar="RESULT", help="the same again as these results say")
    again.add_argument("--resume", action="store_true", help="go on where the run into this DIR stopped")
    again.add_argument(
        "--self-test", action="store_true", help="A against A must differ by nothing, A against A + 2 %% must"
    )
    # The inner form: do what DIR/plan.json says in this environment, here and now, and leave DIR/run.json.
    add("--collect", type=Path, metavar="DIR", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.collect:
        return _collect(args.collect, args.env)
    if args.repeat:
        _as_before(args)
    if args.self_test:
        return _self_test(args)
    if args.clock == "instructions":
        return _count(args)
    return _pytest(args)


def _pytest(args: argparse.Namespace) -> int:
    """Hand over to pytest, after the checks that make one line of what is wrong."""
    from testbed.bench.environments import FLEET
    from testbed.bench.gather import ended, on_sigterm
    from testbed.bench.parts import parts
    from testbed.bench.plan import PROFILES, parse_endpoints, parse_paths, parse_sizes

    sizes = parse_sizes(args.services) if args.services else None
    found = parts(args.modes, args.proxy, args.clock, args.env, PROFILES[args.profile], sizes)
    args.env = FLEET if FLEET in found else args.env  # looked for once
    for parse, text in ((parse_endpoints, args.endpoints), (parse_paths, args.paths)):
        if text:
            parse(text)
    checkout = Path(__file__).parents[2]
    if not (checkout / "benchmarks/conftest.py").exists():
        raise UsageError(f"no benchmarks/ in {checkout}: run `testbed bench` from a checkout of the project")
    words = [sys.executable, "-m", "pytest", "benchmarks"]
    words += [f"--{option}={getattr(args, option)}" for option in ("env", "profile", "clock")]
    for option in ("modes", "services", "endpoints", "paths"):
        words += [f"--{option}={value}" for value in [getattr(args, option)] if value]
    words += [f"--proxy={proxy}" for proxy in args.proxy]
    words += [f"-k={args.measure}"] if args.measure else []
    words += [f"--results={args.output.resolve()}"] if args.output else []
    words += ["--resume"] if args.resume else []
    on_sigterm()
    with subprocess.Popen(words, cwd=checkout) as pytest:
        code = ended(pytest)
    if code == NOTHING_SELECTED:
        from testbed.bench.collect import KNOWN

        raise UsageError(f"-k {args.measure!r} selects nothing; measures are {', '.join(KNOWN)}")
    if code:
        raise TestbedError(f"the benchmarks failed (pytest ended with {code}); what went wrong is said above")
    return 0


def _as_before(args: argparse.Namespace) -> None:
    """What a results file says that was asked for; it must be possible here too."""
    from testbed.bench.parts import AUTO, WALL
    from testbed.bench.plan import PROFILES
    from testbed.bench.record import load_results
    from testbed.bench.units import INSTRUCTIONS

    runs = load_results(args.repeat).runs
    plans: dict[str, Any] = {run.environment: run.plan for run in runs if run.plan}
    if not plans:
        raise UsageError(f"{args.repeat} does not say what was asked for; give results of this version")
    counted = plans.pop(INSTRUCTIONS, None)
    if counted and not plans:
        args.services, args.modes = ",".join(map(str, counted["sizes"])), ",".join(counted["modes"])
        args.clock = INSTRUCTIONS
        return
    args.clock = AUTO if counted else WALL
    environment, plan = list(plans.items())[-1]
    own = [column for column in plan["columns"] if column["command"]]
    args.proxy = [f"{column['name']}={column['command']}" for column in own]
    args.modes = ",".join(column["name"] for column in plan["columns"] if not column["command"])
    args.profile = plan["profile"]["name"]
    profile = PROFILES.get(args.profile)
    kinds = (profile, profile.where_translated(), profile.on_a_fleet()) if profile else ()
    usual = [each.sizes for each in kinds]
    if any(tuple(of["sizes"]) not in usual for of in plans.values()):
        args.services = ",".join(map(str, plan["sizes"]))
    args.endpoints, args.paths = ",".join(map(str, plan["endpoints"])), ",".join(plan["paths"])
    args.measure = args.measure or " or ".join(plan["measures"])
    args.env = "auto" if len(plans) > 1 else environment


def _count(args: argparse.Namespace) -> int:
    from testbed.bench import counted
    from testbed.bench.plan import parse_sizes
    from testbed.bench.saving import save

    for option in ("proxy", "endpoints", "paths", "measure"):
        if getattr(args, option):
            flag = "-k" if option == "measure" else f"--{option}"
            raise UsageError(f"--clock instructions has no cluster: leave {flag} out, or use --clock wall")
    if args.env in ("native", "fleet"):
        raise UsageError("--clock instructions counts in a VM: leave --env out, or use --clock wall")
    modes = counted.parse_modes(args.modes) if args.modes else counted.MODES
    sizes = parse_sizes(args.services) if args.services else counted.SIZES
    directory = args.output or Path("results/instructions")
    run = counted.collect(modes, sizes, _say)
    print(save(directory, [run]))
    return 0


def _self_test(args: argparse.Namespace) -> int:
    from testbed.bench import selftest

    verdict = selftest.counted(_say) if args.clock == "instructions" else selftest.timed(_say)
    print("\n".join(verdict.lines))
    return 0 if verdict.good else 1


def _say(said: str) -> None:
    print(f"bench: {said}", file=sys.stderr, flush=True)


def _collect(room: Path, environment: str) -> int:
    from testbed.bench import between, collect, fleet_site
    from testbed.bench.environments import FLEET
    from testbed.bench.gather import on_sigterm
    from testbed.bench.plan import Plan
    from testbed.bench.record import Run, dump_run

    def keep(run: Run) -> None:
        partial = room / "run.new"
        partial.write_text(dump_run(run))
        partial.rename(room / "run.json")

    on_sigterm()
    plan = Plan.from_json(json.loads((room / "plan.json").read_text()))
    if environment != FLEET:
        keep(collect.Collector(plan, keep).collect())
        return 0
    with fleet_site.site(_say) as site:
        keep(between.Collector(plan, site, keep).collect())
    return 0
