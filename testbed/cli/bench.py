"""Measure and compare proxy modes: first-packet latency and requests on open connections, at growing size.

Runs the benchmarks of the checkout under pytest-benchmark and leaves results.json, report.html and report.md.
A mode that the running kernel cannot do moves the comparison into a small VM by itself.

--clock instructions counts the instructions of a first packet in a small VM instead of timing it: figures
that repeat to half a percent on any machine, however busy. It knows iptables (both variants, iptables-legacy
and iptables-nft), ipvs and nftables.

    testbed bench
    testbed bench --clock instructions --services 1,1000,10000 -o results/counted
    testbed bench --modes iptables,userspace --services 1,1000,5000 -o results/big
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from testbed.errors import TestbedError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modes", metavar="M,…", help="default: iptables,ipvs,userspace; counted: all but userspace"
    )
    parser.add_argument("--services", metavar="N,…", help="default: 1,100,1000; counted: 1,1000,10000")
    parser.add_argument(
        "--clock",
        choices=("wall", "instructions"),
        default="wall",
        help="what a figure counts; default: %(default)s",
    )
    parser.add_argument(
        "--env", choices=("auto", "native", "vm"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="DIR", help="default: results/latest or results/instructions"
    )
    # The inner form: measure all modes in this environment, here and now, and leave the record in a file.
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    from testbed.bench import environments
    from testbed.bench.measures import MODES, SIZES, Plan, parse_modes, parse_sizes

    if args.clock == "instructions":
        return _count(args)
    args.modes = args.modes or ",".join(MODES)
    args.services = args.services or ",".join(map(str, SIZES))
    modes, sizes = parse_modes(args.modes), parse_sizes(args.services)
    if args.collect:
        return _collect(Plan(modes, sizes), args.collect)
    environments.choose(modes, args.env, environments.lacking(modes))
    checkout = Path(__file__).parents[2]
    if not (checkout / "benchmarks/conftest.py").exists():
        raise UsageError(f"no benchmarks/ in {checkout}: run `testbed bench` from a checkout of the project")
    words = [sys.executable, "-m", "pytest", "benchmarks", f"--modes={args.modes}"]
    words += [f"--services={args.services}", f"--env={args.env}"]
    if args.output:
        words.append(f"--results={args.output.resolve()}")
    with subprocess.Popen(words, cwd=checkout) as pytest:
        try:
            code = pytest.wait()
        except KeyboardInterrupt:
            pytest.wait()  # it was interrupted too, and takes its cluster down
            raise
    if code:
        raise TestbedError(f"the benchmarks failed (pytest ended with {code}); what went wrong is said above")
    return 0


def _count(args: argparse.Namespace) -> int:
    from testbed.bench import counted
    from testbed.bench.measures import parse_sizes
    from testbed.bench.saving import save

    if args.env == "native":
        raise UsageError("--clock instructions counts in a VM: leave --env out, or use --clock wall")
    modes = counted.parse_modes(args.modes) if args.modes else counted.MODES
    sizes = parse_sizes(args.services) if args.services else counted.SIZES
    directory = args.output or Path("results/instructions")
    run = counted.collect(modes, sizes, lambda said: print(f"bench: {said}", file=sys.stderr, flush=True))
    print(save(directory, [run]))
    print("\n" + "\n".join(str(directory / name) for name in ("report.html", "report.md", "results.json")))
    return 0


def _collect(plan: object, file: Path) -> int:
    from testbed.bench import environments
    from testbed.bench.collect import collect, quick
    from testbed.bench.measures import Plan
    from testbed.bench.record import dump_run

    assert isinstance(plan, Plan)
    signal.signal(signal.SIGTERM, _interrupt)
    file.write_text(dump_run(collect(quick(plan, environments.here()))))
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
