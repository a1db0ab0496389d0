"""Whole applications, as they are found in the wild: every Service answers on every port, from everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import live
import pytest
from live import until

from testbed.lab.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
NODES = ("node01", "node02")
ASK_UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(2)
    s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    sys.exit(not s.recv(1000))
"""


@dataclass(frozen=True)
class Door:
    """A way to a Service: `machine` asks `address`:`port`."""

    machine: str
    address: str
    port: int
    protocol: str

    def answers(self, cluster: Cluster) -> bool:
        place = f"{self.address}:{self.port}"
        argv = ["curl", "-sf", "-m", "2", "-o", "/dev/null", f"http://{place}/"]
        if self.protocol == "UDP":
            argv = ["python3", "-c", ASK_UDP, self.address, str(self.port)]
        return cluster.machine(self.machine).run(argv, check=False).returncode == 0


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Kubectl]:
    with live.running("applications", tmp_path_factory.mktemp("applications")) as cluster:
        yield live.Kubectl(cluster)


def listed(kubectl: live.Kubectl, kind: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
    return found


def doors(kubectl: live.Kubectl, namespace: str) -> Iterator[Door]:
    endpoints = {each["metadata"]["name"]: each for each in listed(kubectl, "endpoints", namespace)}
    for service in listed(kubectl, "services", namespace):
        name, spec = service["metadata"]["name"], service["spec"]
        for port in spec["ports"]:
            places = [spec["clusterIP"]]
            if spec["clusterIP"] == "None":
                places = [each["ip"] for each in endpoints[name]["subsets"][0]["addresses"]]
            if name != "kubernetes":
                yield from (Door(node, ip, port["port"], port["protocol"]) for node in NODES for ip in places)
            for one in service["status"]["loadBalancer"].get("ingress") or ():
                yield Door("client", one["ip"], port["port"], port["protocol"])
            if port.get("nodePort"):
                yield Door(
                    "client",
                    str(kubectl.cluster.machine("node02").address),
                    port["nodePort"],
                    port["protocol"],
                )


@pytest.mark.feature("A4", "A5", "A6", "A9", "A11", "A12", "B1")
@pytest.mark.parametrize(
    ("file", "namespace", "count"), [("shop.yaml", "shop", 24), ("guestbook.yaml", "default", 7)]
)
def test_every_service_answers(kubectl: live.Kubectl, file: str, namespace: str, count: int) -> None:
    kubectl("apply", "-f", str(EXAMPLES / file))
    for kind in ("deployment", "statefulset"):
        for each in listed(kubectl, kind, namespace):
            name = f"{kind}/{each['metadata']['name']}"
            kubectl("rollout", "status", "-n", namespace, name, "--timeout=60s")
    waiting = set(doors(kubectl, namespace))

    def all_answer() -> bool:
        waiting.difference_update([door for door in waiting if door.answers(kubectl.cluster)])
        return not waiting

    assert len(waiting) >= count
    until(all_answer, f"no answer: {waiting}")
    told = kubectl("get", "events", "-n", namespace)
    assert "maps to no program on this machine: the built-in echo stands in" in told


@pytest.mark.feature("A20", "A25")
def test_the_tiers_of_the_shop_reach_each_other(kubectl: live.Kubectl) -> None:
    status = ("get", "ingress", "shop", "-n", "shop", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    address = until(lambda: kubectl(*status), "no address")
    client = kubectl.cluster.machine("client")

    def ask(path: str) -> str:
        return client.run(
            ["curl", "-s", "-m", "2", "-H", "Host: shop.example", f"{address}{path}"], check=False
        ).stdout

    until(lambda: "Welcome to nginx" in ask("/"), "no storefront")
    until(lambda: '"catalog-' in ask("/api/catalog"), "the storefront does not reach the catalog by its name")
    assert '"cart-' in ask("/cart")
