"""The clusters on this machine: nodes, components and where their API servers listen.

testbed status
testbed status --name testbed -o json
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="only this cluster")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    from testbed.lab import state
    from testbed.lab.cluster import Cluster

    if args.name:
        Cluster.open(args.name)
    described = [_describe(name) for name in ([args.name] if args.name else state.clusters())]
    if args.output == "json":
        print(json.dumps({"clusters": described}, indent=1))
    elif not described:
        print("no clusters; `testbed up` makes one")
    else:
        for cluster in described:
            _print(cluster)
    return 0 if all(cluster["healthy"] for cluster in described) else 1


def _describe(name: str) -> dict[str, Any]:
    from testbed.errors import UsageError
    from testbed.lab.cluster import Cluster

    try:
        cluster = Cluster.open(name)
    except UsageError:
        return {"name": name, "healthy": False, "machines": [], "problem": "left over from an `up` cut short"}
    components = cluster.components()
    machines: list[dict[str, Any]] = [
        {
            "name": node.name,
            "addresses": list(map(str, node.addresses)),
            "pod_cidrs": list(map(str, node.pod_cidrs)),
            "running": node.name in components,
            "components": {
                status.id: {
                    "pid": status.pid,
                    "running": status.running,
                    "restarts": status.restarts,
                    "seconds": round(time.time() - status.started, 1),
                }
                for status in components.get(node.name, [])
            },
        }
        for node in cluster.spec.nodes
    ]
    return {
        "name": name,
        "healthy": all(
            m["running"] and all(c["running"] for c in m["components"].values()) for m in machines
        ),
        "server": f"https://127.0.0.1:{cluster.api_port}",
        "proxy_mode": cluster.spec.proxy_mode,
        "cluster_cidrs": list(map(str, cluster.spec.cluster_cidrs)),
        "service_cidrs": list(map(str, cluster.spec.service_cidrs)),
        "machines": machines,
    }


def _print(cluster: dict[str, Any]) -> None:
    verdict = cluster.get("problem") or ("healthy" if cluster["healthy"] else "UNHEALTHY")
    print(f"cluster {cluster['name']}: {verdict}")
    if "server" in cluster:
        print(f"  API server {cluster['server']}")
        pods, services = ", ".join(cluster["cluster_cidrs"]), ", ".join(cluster["service_cidrs"])
        print(f"  Pods {pods}; Services {services}")
    for machine in cluster["machines"]:
        parts = [_component(name, facts) for name, facts in machine["components"].items()]
        print(f"  {machine['name']:<14}{machine['addresses'][0]:<14}{', '.join(parts) or 'not running'}")


def _component(name: str, facts: dict[str, Any]) -> str:
    restarts = f" ({facts['restarts']} restarts)" if facts["restarts"] else ""
    return name + ("" if facts["running"] else " down") + restarts
