"""Print the path of a cluster's kubeconfig, for any Kubernetes client on this machine.

KUBECONFIG=$(testbed kubeconfig) kubectl get nodes
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="testbed", help="cluster name (default testbed)")


def run(args: argparse.Namespace) -> int:
    from testbed.lab.cluster import Cluster

    print(Cluster.open(args.name).kubeconfig)
    return 0
