"""Clusters of both IP families, of either alone, and with either first: addresses, Services, DNS, outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from live import TESTBED, Kubectl, running, until

from testbed.lab.cluster import Cluster

pytestmark = [pytest.mark.needs("netns", "ip6tables"), pytest.mark.feature("B9")]

MANIFEST = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: testbed/echo, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 8080}]}
"""
ASK = """
import socket, sys
for name in sys.argv[1:]:
    print(name, *sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80)}))
"""
V4, V6 = "10.244.0.0/16", "fd00:10:244::/56"


@pytest.fixture(
    scope="module",
    params=[("", (4, 6)), (f"--cluster-cidr={V6}", (6,)), (f"--cluster-cidr={V6},{V4}", (6, 4))],
    ids=lambda param: "-".join(f"IPv{version}" for version in param[1]),
)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, tuple[int, ...]]]:
    flag, families = request.param
    name = "stack" + "".join(map(str, families))
    with running(name, tmp_path_factory.mktemp(name), *filter(None, [flag])) as up:
        kubectl = Kubectl(up)
        kubectl("apply", "-f", "-", manifest=MANIFEST)
        kubectl("rollout", "status", "daemonset/web")
        kubectl("-n", "kube-system", "rollout", "status", "deployment/kube-dns")
        yield up, families


def versions(addresses: list[str]) -> tuple[int, ...]:
    return tuple(ip_address(each).version for each in addresses)


def get(kubectl: Kubectl, *words: str) -> Any:
    return json.loads(kubectl("get", *words, "-o", "json"))


def test_nodes_pods_and_services_have_an_address_of_each_family(
    cluster: tuple[Cluster, tuple[int, ...]],
) -> None:
    up, families = cluster
    kubectl = Kubectl(up)
    for node in get(kubectl, "nodes")["items"]:
        own = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
        assert versions(own) == families
        assert versions([cidr.partition("/")[0] for cidr in node["spec"]["podCIDRs"]]) == families
    for pod in get(kubectl, "pods")["items"]:
        assert versions([each["ip"] for each in pod["status"]["podIPs"]]) == families
        assert versions([each["ip"] for each in pod["status"]["hostIPs"]]) == families
    service = get(kubectl, "service", "web")
    assert versions(service["spec"]["clusterIPs"]) == families
    assert versions([each["ip"] for each in service["status"]["loadBalancer"]["ingress"]]) == families
    slices = get(kubectl, "endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
    assert sorted(each["addressType"] for each in slices) == sorted(f"IPv{each}" for each in families)


def test_every_address_of_a_service_leads_to_its_pods(cluster: tuple[Cluster, tuple[int, ...]]) -> None:
    up, families = cluster
    kubectl = Kubectl(up)
    service = get(kubectl, "service", "web")
    node_port = service["spec"]["ports"][0]["nodePort"]
    pod = get(kubectl, "pods")["items"][0]["metadata"]["name"]
    balanced = [each["ip"] for each in service["status"]["loadBalancer"]["ingress"]]
    own = map(str, up.spec.workers[0].addresses)
    outside = [*((ip, 80) for ip in balanced), *((ip, node_port) for ip in own)]
    for ip in service["spec"]["clusterIPs"]:
        answer = json.loads(kubectl("exec", pod, "--", "curl", "-gsm5", url(ip, 80)))
        assert ip_address(answer["address"]).version == ip_address(ip).version
    for ip, port in outside:
        asked = up.machine("client").run(["curl", "-gsm5", url(ip, port)], check=False)
        assert ip_address(json.loads(asked.stdout)["address"]).version == ip_address(ip).version
    assert len(outside) == 2 * len(families)


def test_names_have_addresses_of_each_family(cluster: tuple[Cluster, tuple[int, ...]]) -> None:
    up, _ = cluster
    kubectl = Kubectl(up)
    service, pods = get(kubectl, "service", "web"), get(kubectl, "pods")["items"]
    endpoints = [each["ip"] for pod in pods for each in pod["status"]["podIPs"]]
    due = {"web": sorted(service["spec"]["clusterIPs"]), "pods.default": sorted(endpoints)}
    name = pods[0]["metadata"]["name"]

    def resolved() -> dict[str, list[str]]:
        told = kubectl("exec", name, "--", "python3", "-c", ASK, *due)
        return {line.split()[0]: line.split()[1:] for line in told.splitlines()}

    until(lambda: resolved() == due, "the cluster DNS knows every address")


def url(ip: str, port: int) -> str:
    return f"http://[{ip}]:{port}/" if ":" in ip else f"http://{ip}:{port}/"


def test_ranges_of_one_family_that_overlap_are_refused() -> None:
    ranges = "10.96.0.0/12,fd00:10:244:8::/112"
    words = ["up", "--name", "overlap", f"--service-cluster-ip-range={ranges}"]
    done = subprocess.run([*TESTBED, *words], capture_output=True, text=True, check=False)
    told = "Pod range fd00:10:244::/56 overlaps Service range fd00:10:244:8::/112"
    assert (done.returncode, done.stderr) == (2, f"testbed up: {told}; choose ranges that are disjoint\n")
