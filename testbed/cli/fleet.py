"""Machines made into a cluster by Ansible: Vagrant's, or any that an inventory names.

testbed fleet up --inventory machines.ini      # groups: control_plane (one), nodes
testbed fleet status
testbed fleet down --inventory machines.ini    # the machines stay; what was put on them goes
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from testbed.model.topology import DEFAULT_SERVICE_CIDR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    bundle = actions.add_parser("bundle", help="what nodes run, as archives; called by the role host")
    bundle.add_argument("--python", required=True, metavar="3.N", help="the nodes' Python")
    credentials = actions.add_parser("credentials", help="on a control plane: its certificates and token")
    credentials.add_argument("--directory", type=Path, required=True, metavar="DIR")
    credentials.add_argument("--address", required=True, metavar="IP")
    credentials.add_argument("--node-name", required=True, metavar="NAME")
    credentials.add_argument("--service-cluster-ip-range", default=str(DEFAULT_SERVICE_CIDR), metavar="CIDR")


def run(args: argparse.Namespace) -> int:
    return {"bundle": _bundle, "credentials": _credentials}[args.action](args)


def _bundle(args: argparse.Namespace) -> int:
    from testbed.vm import bundle

    archives = [bundle.libraries(args.python), bundle.project()]
    print(json.dumps([{"path": str(each.path), "directory": each.directory} for each in archives]))
    return 0


def _credentials(args: argparse.Namespace) -> int:
    from testbed.lab import fleet_credentials
    from testbed.model.families import network

    services = network(args.service_cluster_ip_range, "--service-cluster-ip-range")
    for name in fleet_credentials.issue(args.directory, args.address, args.node_name, services):
        print(name)
    return 0
