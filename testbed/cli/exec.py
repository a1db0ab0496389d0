"""Run a command (or, without one, a shell) on a node, in a Pod, or on the client outside the cluster.

testbed exec client -- curl -s node01:30080
testbed exec node/node01 -- iptables -t nat -L KUBE-SERVICES
testbed exec pod/default/nginx-5b7f8d-x2x4q -- cat /etc/hostname

kubectl works there too: KUBECONFIG is one with the address that the API server has inside the cluster.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from testbed.errors import TestbedError, UsageError

if TYPE_CHECKING:
    from testbed.lab.cluster import Cluster

SHELL = ["/bin/bash"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="testbed", help="cluster name (default testbed)")
    parser.add_argument("target", help="node/NAME, pod/NAMESPACE/NAME or client")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command")


def run(args: argparse.Namespace) -> int:
    from testbed.lab.cluster import INSIDE_KUBECONFIG, Cluster

    cluster = Cluster.open(args.name)
    words = (args.words[1:] if args.words[:1] == ["--"] else args.words) or SHELL
    command = _command(cluster, args.target, words)
    os.environ["KUBECONFIG"] = str(cluster.state.path / INSIDE_KUBECONFIG)
    os.execvp(command[0], command)


def _command(cluster: Cluster, target: str, words: list[str]) -> list[str]:
    kind, _, rest = target.partition("/")
    if kind == "pod" and rest.count("/") == 1:
        namespace, name = rest.split("/")
        return _in_pod(cluster, namespace, name, words)
    if kind == "node" and rest:
        return cluster.machine(rest).command(words)
    if not rest:
        return cluster.machine(kind).command(words)
    raise UsageError(f"target {target!r} is not node/NAME, pod/NAMESPACE/NAME or client")


def _in_pod(cluster: Cluster, namespace: str, name: str, words: list[str]) -> list[str]:
    """The machine's namespaces first, then those of the Pod's first container."""
    import asyncio

    from testbed.client import Client
    from testbed.model.resources import PODS
    from testbed.node import runtime

    async def read() -> dict[str, Any]:
        async with Client.from_kubeconfig(cluster.kubeconfig) as client:
            return await client.get(PODS, name, namespace)

    pod = asyncio.run(read())
    containers = pod["status"].get("containerStatuses", [])
    machine = cluster.machine(pod["spec"]["nodeName"])
    running = {s["id"]: s["pid"] for s in runtime.call({"do": "list"}, machine.init_socket)["list"]}
    for container in containers:
        pid = running.get(container.get("containerID", "").partition("://")[2])
        if pid:
            spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
            return machine.command(["nsenter", f"--target={pid}", *spaces, "--wdns=/", "--", *words])
    raise TestbedError(f"Pod {namespace}/{name} has no running container")
