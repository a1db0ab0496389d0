"""Run a command in a small virtual machine with a full-featured kernel.

The machine sees this machine's files; what it writes stays in its memory, except below the working
directory and the directories given with --rw. The command runs as root, with this environment; its exit
code is passed on.

  testbed vm run -- ip link add type dummy
  testbed vm run --clock instructions -- python3 -m timeit pass
  testbed vm run --memory 4096 --rw /srv/results -- pytest tests/kernel
"""

from __future__ import annotations

import argparse
from pathlib import Path

from testbed import vm
from testbed.vm import qemu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run_ = actions.add_parser("run", help="run one command in a fresh machine", description=__doc__)
    run_.formatter_class = argparse.RawDescriptionHelpFormatter
    run_.add_argument("--engine", choices=["qemu"], default="qemu", help="what runs the machine")
    run_.add_argument(
        "--kernel", type=Path, help="a vmlinuz; default: the distribution's generic kernel, downloaded"
    )
    run_.add_argument("--memory", type=int, default=qemu.MEMORY, metavar="MB", help="default: %(default)s")
    run_.add_argument("--cpus", type=int, metavar="N", help=f"default: {qemu.CPUS}")
    run_.add_argument(
        "--clock",
        choices=qemu.CLOCKS,
        default="wall",
        help="instructions: one emulated CPU, a nanosecond of its time is one instruction",
    )
    run_.add_argument(
        "--rw", type=Path, action="append", default=[], metavar="DIR", help="share DIR for writing"
    )
    run_.add_argument(
        "-v", "--verbose", action="store_true", help="print the guest kernel's messages at the end"
    )
    run_.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- ARGV…", help="the command")


def run(args: argparse.Namespace) -> int:
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    return vm.run(
        argv,
        rw=args.rw,
        memory=args.memory,
        cpus=args.cpus,
        clock=args.clock,
        kernel=args.kernel,
        verbose=args.verbose,
    )
