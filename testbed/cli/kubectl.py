"""Run kubectl against a cluster.

testbed kubectl -- get pods -o wide
"""

from __future__ import annotations

import argparse
import os
import shutil

from testbed.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="testbed", help="cluster name (default testbed)")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- WORDS", help="kubectl's own arguments")


def run(args: argparse.Namespace) -> int:
    from testbed.lab.cluster import Cluster

    cluster = Cluster.open(args.name)
    if shutil.which("kubectl") is None:
        raise UsageError("kubectl is not on PATH; `make setup` installs it")
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    os.execvp("kubectl", ["kubectl", *words])
