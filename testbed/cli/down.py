"""Take a cluster down. Its processes, namespaces, links, rules and files are gone when this returns.

testbed down --name testbed
testbed down --all
"""

from __future__ import annotations

import argparse

from testbed.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--name", default="testbed", help="cluster name (default testbed)")
    which.add_argument("--all", action="store_true", help="every cluster of this machine, left-overs too")


def run(args: argparse.Namespace) -> int:
    from testbed.lab import state

    known = state.clusters()
    if not args.all and args.name not in known:
        raise UsageError(
            f"no cluster {args.name!r} on this machine (there are: {', '.join(known) or 'none'})"
        )
    for name in known if args.all else [args.name]:
        state.State(name).destroy()
        print(f"cluster {name} is down")
    return 0
