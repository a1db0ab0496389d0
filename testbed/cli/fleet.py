"""Machines made into a cluster by Ansible: Vagrant's, or any that an inventory names.

testbed fleet up --inventory machines.ini      # groups: control_plane (one), nodes
testbed fleet status
testbed fleet down --inventory machines.ini    # the machines stay; what was put on them goes
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import TestbedError, UsageError
from testbed.model.topology import DEFAULT_SERVICE_CIDR

if TYPE_CHECKING:
    from testbed.lab.fleet import Member

READY_SECONDS = 180.0
POLL = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("up", "make the machines a cluster, and return when all are Ready; safe to run again"),
        ("down", "stop the cluster and remove it from the machines"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--inventory", type=Path, metavar="FILE", help="default: that of `vagrant up`")
        if name == "up":
            action.add_argument("--check", action="store_true", help="change nothing; 1 if something would")
    status = actions.add_parser("status", help="the nodes, as the API server has them")
    status.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    status.add_argument("--wait", metavar="NODE,…", help="first wait until these are Ready")
    actions.add_parser("kubeconfig", help="print the path of its kubeconfig")
    _add_parts(actions)


def _add_parts(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What roles and measurements call; no part of the list that --help prints."""
    actions.add_parser("calls")
    bundle = actions.add_parser("bundle")
    bundle.add_argument("--python", required=True, metavar="3.N", help="the nodes' Python")
    credentials = actions.add_parser("credentials")
    credentials.add_argument("--directory", type=Path, required=True, metavar="DIR")
    credentials.add_argument("--address", required=True, metavar="IP")
    credentials.add_argument("--node-name", required=True, metavar="NAME")
    credentials.add_argument("--service-cluster-ip-range", default=str(DEFAULT_SERVICE_CIDR), metavar="CIDR")


def run(args: argparse.Namespace) -> int:
    return ACTIONS[args.action](args)


def _up(args: argparse.Namespace) -> int:
    from testbed.lab import fleet

    started = time.monotonic()
    path = fleet.inventory(args.inventory)
    groups = fleet.machines(path)
    wanted = {name for names in groups.values() for name in names}
    with fleet.locked():
        changed = fleet.play("fleet.yml", path, _say, check=args.check)
        if args.check:
            print(f"fleet: {sum(changed.values())} changes to make")
            return int(any(changed.values()))
        if path != fleet.ROOM / "inventory":
            shutil.copyfile(path, fleet.ROOM / "inventory")
    took = time.monotonic() - started
    print(f"fleet: {len(wanted)} nodes Ready in {took:.0f} s, changes: {sum(changed.values())}")
    print(f"export KUBECONFIG={fleet.KUBECONFIG}")
    return 0


def _wait(wanted: set[str]) -> None:
    from testbed.lab import fleet

    deadline = time.monotonic() + READY_SECONDS
    while True:
        missing, told = set(wanted), "its API server is silent"
        try:
            held = fleet.members()
            missing = wanted - {member.name for member in held if member.ready}
            told = "; ".join(f"{member.name}: {member.why}" for member in held if not member.ready)
        except UsageError:
            raise  # there is none to wait for
        except TestbedError as error:
            told = str(error)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise TestbedError(
                f"not Ready after {READY_SECONDS:g} s: {', '.join(sorted(missing))} ({told}); "
                "on the machine, /var/log/kubelet.log says why"
            )
        time.sleep(POLL)


def _down(args: argparse.Namespace) -> int:
    from testbed.lab import fleet

    path = fleet.inventory(args.inventory)
    fleet.machines(path)
    with fleet.locked():
        fleet.play("fleet-down.yml", path, _say)
        fleet.KUBECONFIG.unlink(missing_ok=True)
        (fleet.ROOM / "inventory").unlink(missing_ok=True)
    print("the fleet is down; its machines are as they were, but for packages")
    return 0


def _status(args: argparse.Namespace) -> int:
    from testbed.lab import fleet

    if args.wait:
        _wait(set(args.wait.split(",")))
    held = fleet.members()
    if args.output == "json":
        print(json.dumps({"nodes": [asdict(member) for member in held]}, indent=1))
    else:
        print(_table(held))
    return 0 if all(member.ready for member in held) else 1


def _table(members: list[Member]) -> str:
    rows = [("node", "address", "Pods", "kernel", "")]
    for one in members:
        state = "Ready" if one.ready else f"not Ready: {one.why}"
        rows.append((one.name, one.address, one.pods, one.kernel, state))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in line).rstrip() for line in lines)


def _kubeconfig(_: argparse.Namespace) -> int:
    from testbed.lab import fleet

    fleet.members()
    print(fleet.KUBECONFIG)
    return 0


def _bundle(args: argparse.Namespace) -> int:
    from testbed.vm import bundle

    archives = [bundle.libraries(args.python), bundle.project(args.python)]
    print(json.dumps([{"path": str(each.path), "directory": each.directory} for each in archives]))
    return 0


def _calls(_: argparse.Namespace) -> int:
    """In a Pod: do what is asked for on stdin, see `testbed.lab.distant`."""
    from testbed.lab.distant import take_calls

    take_calls()
    return 0


def _credentials(args: argparse.Namespace) -> int:
    from testbed.lab import fleet_credentials
    from testbed.model.families import network

    services = network(args.service_cluster_ip_range, "--service-cluster-ip-range")
    for name in fleet_credentials.issue(args.directory, args.address, args.node_name, services):
        print(name)
    return 0


def _say(text: str) -> None:
    print(f"fleet: {text}", file=sys.stderr, flush=True)


ACTIONS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubeconfig": _kubeconfig,
    "calls": _calls,
    "bundle": _bundle,
    "credentials": _credentials,
}
