"""Names as a program in a Pod sees them: the C library's resolver, through the DNS Service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import live
import pytest
from live import until

NAMED = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {clusterIP: None, ports: [{name: mysql, port: 3306}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets: [{addresses: [{ip: 192.0.2.42}], ports: [{name: mysql, port: 3306}]}]
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {app: db}}
spec: {hostname: first, subdomain: db, containers: [{name: c, image: testbed/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, labels: {app: db}}
spec: {containers: [{name: c, image: testbed/echo}]}
"""

SCRIPT = r"""
import json, socket, sys
def look(name):
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except socket.gaierror as error:
        return [str(error.errno)]
print(json.dumps({name: look(name) for name in sys.argv[1:]}), flush=True)
"""


class Kubectl(live.Kubectl):
    """kubectl on one cluster."""

    def get(self, *words: str) -> Any:
        return json.loads(self("get", *words, "-o", "json"))

    def run(self, name: str, *command: str) -> str:
        """What a command prints in a Pod of its own."""
        container = {"name": "c", "image": "busybox", "command": list(command)}
        spec = {"restartPolicy": "Never", "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self("apply", "-f", "-", manifest=json.dumps(pod))
        until(lambda: self.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), f"{name} runs on")
        return self("logs", name)


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("dns", tmp_path_factory.mktemp("dns")) as cluster:
        kubectl = Kubectl(cluster)
        kubectl("apply", "-f", "-", manifest=NAMED)
        kubectl("rollout", "status", "-n", "kube-system", "deployment/kube-dns", "--timeout=60s")
        kubectl("wait", "--for=condition=Ready", "pod/db-0", "pod/db-1", "--timeout=60s")
        yield kubectl


@pytest.mark.feature("A7", "A9", "A10", "A20")
def test_names_short_and_full_are_found_by_the_search_path(kubectl: Kubectl) -> None:
    pods = {name: kubectl.get("pod", name)["status"]["podIP"] for name in ("db-0", "db-1")}
    web = kubectl.get("service", "web")["spec"]["clusterIP"]
    dashed = pods["db-1"].replace(".", "-")
    expected = {
        "web": [web],
        "web.default": [web],
        "web.default.svc": [web],
        "web.default.svc.cluster.local": [web],
        "WEB.Default": [web],
        "kubernetes": ["10.96.0.1"],
        "kube-dns.kube-system": ["10.96.0.10"],
        "db": sorted(pods.values()),
        "first.db": [pods["db-0"]],
        f"{dashed}.db": [pods["db-1"]],
        f"{dashed}.default.pod": [pods["db-1"]],
        "outside": ["192.0.2.42"],
        "alias": [web],
    }

    def agrees() -> bool:
        nonlocal seen
        seen = json.loads(kubectl.run(f"look-{time.monotonic_ns()}", sys.executable, "-c", SCRIPT, *expected))
        return bool(seen == expected)

    seen: Any = None
    until(agrees, f"names are not as they should be: {seen}")


@pytest.mark.feature("A20")
def test_getent_looks_names_up_both_ways(kubectl: Kubectl) -> None:
    web = kubectl.get("service", "web")["spec"]["clusterIP"]
    assert kubectl.run("forth", "getent", "hosts", "web").split() == [web, "web.default.svc.cluster.local"]
    assert kubectl.run("back", "getent", "hosts", web).split() == [web, "web.default.svc.cluster.local"]
    assert kubectl.run("none", "getent", "hosts", "no-such-service") == ""


@pytest.mark.feature("A9", "A20")
@pytest.mark.feature("A7", "A20")
def test_a_config_map_says_who_answers_for_other_names(kubectl: Kubectl) -> None:
    flags = [f"--kubeconfig={kubectl.cluster.state.path / 'kube-dns.kubeconfig'}", "--domain=corp.example"]
    container = {"name": "c", "image": "testbed/dns", "args": flags}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "corp"},
        "spec": {"containers": [container]},
    }
    kubectl("apply", "-f", "-", manifest=json.dumps(pod))
    kubectl("wait", "--for=condition=Ready", "pod/corp", "--timeout=60s")
    kubectl("create", "service", "externalname", "beyond", "--external-name=web.default.svc.corp.example")
    stub = json.dumps({"corp.example": [kubectl.get("pod", "corp")["status"]["podIP"]]})
    kubectl("create", "configmap", "-n", "kube-system", "kube-dns", f"--from-literal=stubDomains={stub}")
    web = kubectl.get("service", "web")["spec"]["clusterIP"]
    names = ("web.default.svc.corp.example", "beyond", "other.example")

    def agrees() -> bool:
        seen = json.loads(kubectl.run(f"corp-{time.monotonic_ns()}", sys.executable, "-c", SCRIPT, *names))
        return [seen[name] for name in names[:2]] == [[web], [web]] and seen[names[2]][0].startswith("-")

    until(agrees, "the stub domain is not asked")
    kubectl("delete", "configmap", "-n", "kube-system", "kube-dns")


def test_a_headless_service_with_many_pods_is_answered_over_tcp(kubectl: Kubectl) -> None:
    addresses = [f"192.0.2.{n}" for n in range(1, 101)]
    endpoints = {"addresses": [{"ip": ip} for ip in addresses], "ports": [{"port": 1}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many"}}
    service["spec"] = {"clusterIP": "None", "ports": [{"port": 1}]}
    listed = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "many"}, "subsets": [endpoints]}
    for each in (service, listed):
        kubectl("apply", "-f", "-", manifest=json.dumps(each))

    def all_there() -> bool:
        found = json.loads(kubectl.run(f"many-{time.monotonic_ns()}", sys.executable, "-c", SCRIPT, "many"))
        return set(found["many"]) == set(addresses)

    until(all_there, "not all hundred addresses are found")
