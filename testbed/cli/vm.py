"""Small virtual machines: one command in a fresh one, or what Vagrant makes lasting ones from.

testbed vm run -- ip link add type dummy
testbed vm box                # a Vagrant box from the distribution's packages, nothing from a box site
testbed vm provider up        # libvirt, where nothing else starts it; `down` puts the host back as it was
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from testbed import vm
from testbed.vm import preflight, qemu

RUN = """Run a command in a small virtual machine with a full-featured kernel.

The machine sees this machine's files; what it writes stays in its memory, except below the working
directory and the directories given with --rw. The command runs as root, with this environment; its exit
code is passed on.

  testbed vm run -- ip link add type dummy
  testbed vm run --clock instructions -- python3 -m timeit pass
  testbed vm run --memory 4096 --rw /srv/results -- pytest tests/kernel
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_run(actions.add_parser("run", help="run one command in a fresh machine", description=RUN))
    box = actions.add_parser("box", help="make the Vagrant box testbed/node, and give it to Vagrant")
    box.add_argument("-o", dest="output", type=Path, metavar="FILE", help="write it there, and nothing else")
    provider = actions.add_parser("provider", help="libvirt for Vagrant, where nothing else starts it")
    provider.add_argument(
        "state", choices=("up", "down"), help="down: the host's rules and sysctls as before"
    )
    actions.add_parser("accelerator", help="kvm where it truly works here, else tcg: emulation")
    fits = actions.add_parser("fits", help="can this machine carry Vagrant's? Exit code 2, and why not")
    fits.add_argument("--provider", choices=preflight.PROVIDERS, default=preflight.LIBVIRT)
    fits.add_argument("--machines", type=int, required=True, metavar="N", help="that are to be made")
    fits.add_argument("--memory", type=int, required=True, metavar="MB", help="of all of them together")
    fits.add_argument("--accelerator", choices=sorted(preflight.BESIDES), help="default: what works here")


def _add_run(run_: argparse.ArgumentParser) -> None:
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
    return ACTIONS[args.action](args)


def _run(args: argparse.Namespace) -> int:
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


def _box(args: argparse.Namespace) -> int:
    import shutil

    from testbed.errors import TestbedError, UsageError
    from testbed.vm import box

    if not args.output and shutil.which("vagrant") is None:
        raise UsageError(
            "no Vagrant to give the box to: apt-get install vagrant vagrant-libvirt, or name -o FILE"
        )
    started = time.monotonic()
    built = box.build(_say)
    took = f"in {time.monotonic() - started:.0f} s" if built.made else "(from the cache)"
    if args.output:
        shutil.copyfile(built.path, args.output)
        print(f"{args.output}: kernel {built.kernel}, {took}")
        return 0
    command = ["vagrant", "box", "add", "--force", "--name", box.NAME, str(built.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(
            f"vagrant does not take the box: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )
    print(f"box {box.NAME}: kernel {built.kernel}, {took}")
    return 0


def _provider(args: argparse.Namespace) -> int:
    from testbed.errors import TestbedError
    from testbed.vm import provider

    if args.state == "up":
        print("libvirt is up" if provider.up(_say) else "libvirt was up already")
        return 0
    left = provider.down(_say)
    if left:
        raise TestbedError(f"libvirt is down, but {'; '.join(left)}")
    print("libvirt is down, the host is as before")
    return 0


def _accelerator(_: argparse.Namespace) -> int:
    print(qemu.best_accelerator())
    return 0


def _fits(args: argparse.Namespace) -> int:
    accelerator = args.accelerator or qemu.best_accelerator()
    preflight.fits(args.provider, args.machines, args.memory, accelerator)
    if accelerator == "tcg":
        _say(
            "hardware virtualisation does not work here (VT-x or AMD-V in the firmware, nested if this is a "
            "VM): machines are emulated, slow but real"
        )
    return 0


ACTIONS = {"run": _run, "box": _box, "provider": _provider, "accelerator": _accelerator, "fits": _fits}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
