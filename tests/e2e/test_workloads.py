"""Deployments, Pods and Services on a real cluster, driven by kubectl: they come, change, leave nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from live import until

from testbed.lab.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
NODES = ("node01", "node02")

LEFT = """
echo netns $(ls /run/netns | wc -l)
echo links $(ip -o link | grep -c veth)
echo pods $(( $(ls /var/lib/kubelet/pods | wc -l) - $(ls /var/log/pods | grep -c ^kube-system_) ))
echo addresses $(ls /var/lib/cni/networks/testbed | grep -c ^10)
echo processes $(ps ax | grep -cE '[e]cho --tcp|[n]ginx: master')
echo logs $(ls /var/log/pods | grep -cv ^kube-system_)
"""
"""What the Pods of a node are made of, counted; those of the system, which stay, left out."""


class Kubectl(live.Kubectl):
    """kubectl on one cluster, and the cluster's machines."""

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self("get", "pods", "-o", "json", "-l", selector))["items"]
        return items

    def curl(self, machine: str, url: str) -> str:
        return self.cluster.machine(machine).run(["curl", "-sS", "-m", "5", url], capture_output=True).stdout

    def left(self) -> dict[str, dict[str, int]]:
        """What is on each node: see LEFT."""
        found = {}
        for node in NODES:
            text = self.cluster.machine(node).run(["sh", "-c", LEFT], capture_output=True).stdout
            found[node] = {name: int(count) for name, count in map(str.split, text.splitlines())}
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with live.running("workloads", tmp_path_factory.mktemp("workloads")) as cluster:
        yield cluster


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """kubectl; after the test all that it made is deleted, and nothing of it may be left."""
    kubectl = Kubectl(cluster)
    yield kubectl
    kubectl("delete", "deployments,services,pods", "--all", "--wait=false")
    nothing = {node: dict.fromkeys(kubectl.left()[node], 0) for node in NODES}
    until(lambda: not kubectl.pods() and kubectl.left() == nothing, f"left behind: {kubectl.left()}")


@pytest.mark.feature("A2", "A4", "A5")
def test_nginx_answers_from_outside_and_every_pod_from_every_node(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "nginx.yaml"))
    kubectl("rollout", "status", "deployment/nginx", "--timeout=60s")
    assert "2/2" in kubectl("get", "deployment", "nginx", "--no-headers")
    for pod in kubectl.pods("app=nginx"):
        for machine in (*NODES, "controlplane"):
            assert "Welcome to nginx!" in kubectl.curl(machine, f"http://{pod['status']['podIP']}/")
    outside = f"http://{kubectl.cluster.machine('node02').address}:30080/"
    until(lambda: "Welcome to nginx!" in kubectl.curl("client", outside), "no answer on the node port")


@pytest.mark.feature("A3", "A23")
def test_a_deployment_rolls_forward_and_back(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "echo.yaml"))
    kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    first = {pod["metadata"]["name"] for pod in kubectl.pods()}
    kubectl("set", "env", "deployment/echo", "COLOR=blue")
    kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    blue = until(lambda: len(pods := kubectl.pods()) == 3 and pods, "the old Pods did not go")
    assert not first & {pod["metadata"]["name"] for pod in blue}
    assert all(pod["spec"]["containers"][0]["env"] == [{"name": "COLOR", "value": "blue"}] for pod in blue)
    kubectl("rollout", "undo", "deployment/echo")
    kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    plain = until(lambda: len(pods := kubectl.pods()) == 3 and pods, "the blue Pods did not go")
    assert not any(pod["spec"]["containers"][0].get("env") for pod in plain)


@pytest.mark.feature("A3", "A12", "B5")
def test_endpoints_follow_the_pods(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "echo.yaml"))
    kubectl("scale", "deployment/echo", "--replicas=7")

    def agree() -> bool:
        pods = {pod["status"].get("podIP") for pod in kubectl.pods("app=echo")}
        listed = json.loads(
            kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=echo", "-o", "json")
        )
        ready = {
            address
            for each in listed["items"]
            for endpoint in each["endpoints"]
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        }
        endpoints = json.loads(kubectl("get", "endpoints", "echo", "-o", "json"))
        old = {each["ip"] for subset in endpoints.get("subsets", ()) for each in subset.get("addresses", ())}
        return len(pods) == 7 and pods == ready == old

    until(agree, "endpoints and Pods do not agree")


@pytest.mark.feature("D11")
def test_an_agent_killed_at_work_keeps_its_pods_and_loses_none(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "echo.yaml"))
    kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    before = {pod["metadata"]["uid"] for pod in kubectl.pods()}
    for replicas in (20, 4, 12):
        kubectl("scale", "deployment/echo", f"--replicas={replicas}")
        for node in NODES:
            kubectl.cluster.machine(node).run(["sh", "-c", "kill -9 $(pgrep -f ^kubelet) || true"])
        time.sleep(0.2)  # somewhere in the middle of the next round, wherever that is
    kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    pods = until(lambda: len(found := kubectl.pods()) == 12 and found, "twelve Pods")
    assert before & {pod["metadata"]["uid"] for pod in pods}, "an old Pod lives on"
    assert all(status["restartCount"] == 0 for pod in pods for status in pod["status"]["containerStatuses"])
    until(lambda: sum(node["processes"] for node in kubectl.left().values()) == 12, "twelve processes")


BAD = """
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec: {containers: [{name: c, image: x, command: [/no/such/program]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: exits}
spec: {containers: [{name: c, image: busybox, command: [sh, -c, "echo hello; exit 3"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: forks}
spec:
  restartPolicy: Never
  containers: [{name: c, image: busybox, command: [sh, -c, "sleep 7777 & echo done"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere}
spec: {nodeSelector: {no: such}, containers: [{name: c, image: testbed/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unmapped}
spec: {containers: [{name: c, image: "mysql:8", ports: [{containerPort: 3306}]}]}
"""


def test_what_is_wrong_with_a_pod_is_told_by_status_event_and_log(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=BAD)

    def shows(name: str, status: str) -> bool:
        return status in kubectl("get", "pod", name, "--no-headers")

    until(lambda: shows("missing", "RunContainerError"), "missing program")
    until(lambda: shows("exits", "CrashLoopBackOff"), "crash loop")
    until(lambda: shows("forks", "Completed"), "completed")
    until(lambda: shows("unmapped", "Running"), "stand-in")
    assert shows("nowhere", "Pending")
    assert "No such file or directory" in kubectl("describe", "pod", "missing")
    assert "didn't match Pod's node affinity/selector" in kubectl("describe", "pod", "nowhere")
    assert "the built-in echo stands in" in kubectl("describe", "pod", "unmapped")
    assert kubectl("logs", "exits", "--previous") == "hello\n"
    for node in NODES:
        survivors = kubectl.cluster.machine(node).run(["pgrep", "-f", "sleep 7777"], check=False)
        assert survivors.returncode == 1, "a child outlived its container"


def test_a_namespace_takes_everything_with_it(kubectl: Kubectl) -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: short-lived}\n"
    kubectl("apply", "-f", "-", manifest=namespace)
    kubectl("apply", "-n", "short-lived", "-f", str(EXAMPLES / "echo.yaml"))
    kubectl("rollout", "status", "-n", "short-lived", "deployment/echo", "--timeout=60s")
    kubectl("delete", "namespace", "short-lived", "--timeout=60s")
    assert "short-lived" not in kubectl("get", "namespaces")
    assert kubectl("get", "pods,replicasets,endpointslices", "-n", "short-lived") == ""


@pytest.mark.feature("C3", "C7")
def test_every_namespace_has_an_account_and_the_authority_to_trust(kubectl: Kubectl) -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: furnished}\n"
    kubectl("apply", "-f", "-", manifest=namespace)
    has = ("get", "-n", "furnished", "-o", "name", "configmaps,serviceaccounts")
    wanted = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    until(lambda: set(kubectl(*has).split()) == wanted, "the contents of the namespace")
    kubectl("delete", "-n", "furnished", "configmap/kube-root-ca.crt", "serviceaccount/default")
    until(lambda: set(kubectl(*has).split()) == wanted, "they come back")
    told = kubectl("get", "-n", "furnished", "-o", "yaml", "configmap/kube-root-ca.crt")
    assert "BEGIN CERTIFICATE" in told
    kubectl("delete", "namespace", "furnished", "--timeout=60s")
