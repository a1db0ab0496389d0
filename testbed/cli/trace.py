"""The way of a packet rule by rule: a real one is sent, and each node tells which rules it met.

  testbed trace client node01:30080
  testbed trace pod/default/web-0 svc/default/nginx:80
  testbed trace node/node01 10.96.0.1:443 --protocol tcp

SRC is node/NAME, pod/NAMESPACE/NAME or client; DST is svc/NAMESPACE/NAME, pod/NAMESPACE/NAME, a node's name
or an address. Without a port, a Service's first one is taken. Exit code 1 when there is no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import TestbedError, UsageError

if TYPE_CHECKING:
    from testbed.lab.cluster import Cluster
    from testbed.model.resources import Resource

SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="node/NAME, pod/NAMESPACE/NAME or client")
    parser.add_argument("to", metavar="DST[:PORT]", help="svc/NS/NAME, pod/NS/NAME, node name or address")
    parser.add_argument("--name", default="testbed", help="cluster name (default testbed)")
    parser.add_argument(
        "--protocol", type=str.upper, choices=("TCP", "UDP"), default="TCP", help="default TCP"
    )
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    from testbed.lab.cluster import Cluster
    from testbed.packets.probe import FIRST_PORT, LAST_PORT, Question, Result, ask
    from testbed.packets.tracing import watched

    cluster = Cluster.open(args.name)
    netns = place(cluster, args.source)
    address, port = destination(cluster, args.to, args.protocol)
    source_port = random.randint(FIRST_PORT, LAST_PORT)
    nodes = [cluster.machine(node.name) for node in cluster.spec.nodes]
    question = Question(address, port, args.protocol, source_port, b"trace", SECONDS)
    with watched(nodes, args.protocol, source_port) as ways:
        (answer,) = ask(netns, [question])
    result = {
        "source": f"{answer.address}:{source_port}",
        "destination": f"{address}:{port}",
        "protocol": args.protocol,
        "result": str(answer.result),
        "answer": answer.data.decode(errors="replace").strip()[:200],
        "nodes": [asdict(way) for way in ways],
    }
    if args.output == "json":
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        print(f"{args.source} sends {args.protocol} {result['source']} → {result['destination']}")
        for way in ways:
            if way.rules or way.connections:
                print("\n".join(way.lines()))
        first_line = (str(result["answer"]).splitlines() or [""])[0]
        print(f"{result['result']}: {first_line}" if first_line else result["result"])
    return int(answer.result is not Result.ANSWERED)


def place(cluster: Cluster, target: str) -> Path:
    """The network namespace of node/NAME, pod/NAMESPACE/NAME or client. Raises UsageError."""
    kind, _, rest = target.partition("/")
    if kind == "pod" and rest.count("/") == 1:
        from testbed.model.resources import PODS

        pod = _get(cluster, PODS, *rest.split("/"))
        return cluster.machine(pod["spec"]["nodeName"]).pod_netns(pod)
    if (kind == "node" and rest) or not rest:
        return cluster.machine(rest or kind).netns
    raise UsageError(f"{target!r} is not node/NAME, pod/NAMESPACE/NAME or client")


def destination(cluster: Cluster, text: str, protocol: str) -> tuple[str, int]:
    """Address and port that `text` means. Raises UsageError."""
    from testbed.model.resources import PODS, SERVICES

    name, port = text, ""
    if not _is_address(text):
        head, colon, tail = text.rpartition(":")
        name, port = (head.strip("[]"), tail) if colon and tail.isdecimal() else (text, "")
    kind, _, rest = name.partition("/")
    if kind in ("svc", "pod") and rest.count("/") == 1:
        found = _get(cluster, SERVICES if kind == "svc" else PODS, *rest.split("/"))
        if kind == "svc":
            ports = [p["port"] for p in found["spec"].get("ports", ()) if p["protocol"] == protocol]
            address = found["spec"].get("clusterIP", "")
        else:
            every = [p for c in found["spec"]["containers"] for p in c.get("ports", ())]
            ports = [p["containerPort"] for p in every if p.get("protocol", "TCP") == protocol]
            address = found.get("status", {}).get("podIP", "")
        if not _is_address(address):
            raise UsageError(f"{name} has no address: nothing can be sent to it")
    else:
        nodes = {node.name: str(node.address) for node in cluster.spec.nodes}
        address, ports = nodes.get(name, name), []
        if not _is_address(address):
            raise UsageError(f"{name!r} is no svc/NAMESPACE/NAME, pod/NAMESPACE/NAME, node or address")
    if not port and not ports:
        raise UsageError(f"{text!r} needs a port: {text}:80")
    return address, int(port or ports[0])


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _get(cluster: Cluster, kind: Resource, namespace: str, name: str) -> dict[str, Any]:
    from testbed.client import ApiError, Client

    async def read() -> dict[str, Any]:
        async with Client.from_kubeconfig(cluster.kubeconfig) as client:
            return dict(await client.get(kind, name, namespace))

    try:
        return asyncio.run(read())
    except ApiError as error:
        raise TestbedError(str(error)) from None
