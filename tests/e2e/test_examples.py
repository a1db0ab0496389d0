"""Every example comes up, and its Services answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
import yaml
from live import until

from testbed.lab.cluster import Cluster
from testbed.model.families import bracketed

EXAMPLES = Path(__file__).parents[2] / "examples"

SETS = (
    # Files that are applied together, and the ports of their Services that answer to HTTP.
    (("nginx-pod.yaml", "clusterIP.yaml"), (80,)),
    (("nginx-pod.yaml", "nodeportIP.yaml"), (80,)),
    (("mynginx.yaml", "mynginx-service.yaml"), (80,)),
    (("mysvc-without-selector.yaml",), ()),
    (("myapp.yaml", "mysvc-multi-port.yaml"), (80, 443)),
    (("myapp.yaml", "mysvc-load-balancer.yaml"), (80,)),
    (("myapp.yaml", "dual-stack.yaml"), (80,)),
    (("my-service-external-name.yaml",), ()),
    (("myapp.yaml", "my-service-external-ip.yaml"), (80,)),
    (("myapp.yaml", "my-service.yaml"), (80,)),
    (("nginx-service.yaml",), (80,)),
    (("db-service.yaml",), (3306,)),
    (("echo.yaml",), (80,)),
    (("nginx.yaml",), (80,)),
)
ELSEWHERE = {"guestbook.yaml", "ingress.yaml", "shop.yaml", "nginx-tls.yaml", "two-modes.yaml"}
"""Examples that have a test of their own."""


class Kubectl(live.Kubectl):
    """kubectl on one cluster, in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str = "default") -> None:
        super().__init__(cluster)
        self.namespace = namespace

    def items(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-n", self.namespace, "-o", "json"))[
            "items"
        ]
        return found

    def curl(self, machine: str, url: str) -> bool:
        done = self.cluster.machine(machine).run(["curl", "-sf", "-m", "2", url], check=False)
        return done.returncode == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with live.running("examples", tmp_path_factory.mktemp("examples")) as cluster:
        yield cluster


def addresses(service: dict[str, Any]) -> list[tuple[str, str]]:
    """(machine to ask from, address), for each way to the Service but its node ports."""
    spec, status = service["spec"], service.get("status") or {}
    found = [(node, ip) for node in ("node01", "node02") for ip in spec.get("clusterIPs") or ()]
    found += [("node01", ip) for ip in spec.get("externalIPs") or ()]
    return found + [("client", each["ip"]) for each in status.get("loadBalancer", {}).get("ingress") or ()]


@pytest.mark.parametrize(("files", "ports"), SETS, ids=lambda value: "+".join(map(str, value)) or "none")
@pytest.mark.feature("A4", "A5", "A6", "A7", "A8", "A10", "A11", "A12")
def test_an_example_answers(cluster: Cluster, files: tuple[str, ...], ports: tuple[int, ...]) -> None:
    kubectl = Kubectl(cluster)
    paths = [f"-f={EXAMPLES / name}" for name in files]
    kubectl("apply", *paths)
    try:
        if ports:
            until(lambda: _all_answer(kubectl, ports), f"{files}: no answer")
    finally:
        kubectl("delete", *paths, "--grace-period=1", "--ignore-not-found")


def _all_answer(kubectl: Kubectl, ports: tuple[int, ...]) -> bool:
    services = [each for each in kubectl.items("services") if each["metadata"]["name"] != "kubernetes"]
    balanced = [each for each in services if each["spec"]["type"] == "LoadBalancer"]
    if not services or any(not each["status"].get("loadBalancer") for each in balanced):
        return False
    for service in services:
        if not all(
            kubectl.curl(machine, f"http://{bracketed(ip)}:{port}/")
            for machine, ip in addresses(service)
            for port in ports
        ):
            return False
        for port in service["spec"]["ports"]:
            outside = f"http://{kubectl.cluster.machine('node02').address}:{port.get('nodePort')}/"
            if port.get("nodePort") and not kubectl.curl("client", outside):
                return False
    return True


def test_every_example_is_tried() -> None:
    tried = {name for files, _ in SETS for name in files}
    assert tried | ELSEWHERE == {path.name for path in EXAMPLES.glob("*.yaml")}
    assert all(list(yaml.safe_load_all(path.read_text())) for path in EXAMPLES.glob("*.yaml"))
