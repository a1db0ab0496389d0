"""What a learner looks at in kube-system and on the control plane: kube-proxy's Pods and the manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import live
import pytest
from live import until

NODES = ("controlplane", "node01", "node02")
API_SERVER = ("kube-apiserver-controlplane", "-n", "kube-system")
PROXIES = ("-n", "kube-system", "-l", "k8s-app=kube-proxy")


class Kubectl(live.Kubectl):
    """kubectl on one cluster."""

    def proxies(self) -> dict[str, dict[str, Any]]:
        """The Pods by node."""
        items = json.loads(self("get", "pods", *PROXIES, "-o", "json"))["items"]
        return {pod["spec"]["nodeName"]: pod for pod in items if not pod["metadata"].get("deletionTimestamp")}

    def pid(self, node: str) -> int:
        """Of the node's proxy agent."""
        (unit,) = [each for each in self.cluster.components()[node] if each.id == "kube-proxy"]
        return unit.pid if unit.running else 0


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("system", tmp_path_factory.mktemp("system")) as cluster:
        kubectl = Kubectl(cluster)
        until(lambda: len(kubectl.proxies()) == len(NODES), "a Pod for each proxy")
        kubectl("rollout", "status", "-n", "kube-system", "daemonset/kube-proxy", "--timeout=60s")
        yield kubectl


@pytest.mark.feature("A21", "A22")
def test_the_logs_of_each_proxy_name_the_proxier(kubectl: Kubectl) -> None:
    proxies = kubectl.proxies()
    assert set(proxies) == set(NODES)
    for node, pod in proxies.items():
        assert pod["status"]["podIP"] == str(kubectl.cluster.machine(node).address)
        name = pod["metadata"]["name"]
        assert name.startswith("kube-proxy-")
        log = kubectl("logs", "-n", "kube-system", name)
        assert "Using iptables Proxier" in log
        there = kubectl.cluster.machine(node).run(["cat", "/var/log/kube-proxy.log"]).stdout
        assert there.startswith(log)


def test_a_deleted_proxy_pod_comes_back_with_a_new_process(kubectl: Kubectl) -> None:
    before, old = kubectl.proxies()["node01"], kubectl.pid("node01")
    kubectl("delete", "pod", "-n", "kube-system", before["metadata"]["name"])

    def fresh() -> bool:
        pod = kubectl.proxies().get("node01")
        states = (pod or {}).get("status", {}).get("containerStatuses") or [{}]
        return bool(pod and pod["metadata"]["uid"] != before["metadata"]["uid"] and states[0].get("ready"))

    until(fresh, "no new Pod")
    assert kubectl.pid("node01") not in (0, old)


def test_an_agent_that_dies_shows_as_a_restart(kubectl: Kubectl) -> None:
    pod, old = kubectl.proxies()["node02"], kubectl.pid("node02")
    kubectl.cluster.machine("node02").run(["kill", "-9", str(old)])

    def restarted() -> bool:
        now = kubectl.proxies()["node02"]
        (status,) = now["status"]["containerStatuses"]
        same = now["metadata"]["uid"] == pod["metadata"]["uid"]
        return same and status["restartCount"] == 1 and status["ready"]

    until(restarted, "no restart")


@pytest.mark.feature("A15", "A21")
def test_switching_the_mode_is_seen_in_the_same_logs(kubectl: Kubectl) -> None:
    kubectl.cluster.set_proxy("userspace", nodes=["node01"])
    name = kubectl.proxies()["node01"]["metadata"]["name"]
    until(lambda: "Using userspace Proxier" in kubectl("logs", "-n", "kube-system", name), "no such line")


@pytest.mark.feature("A22")
def test_components_of_the_control_plane_are_shown_as_static_pods(kubectl: Kubectl) -> None:
    """A mirror that is deleted comes back, and what it shows was not touched."""

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            kubectl("get", "pod", *API_SERVER, "-o", "json", "--ignore-not-found") or "{}"
        )
        return found if (found.get("status", {}).get("containerStatuses") or [{}])[0].get("ready") else {}

    def pids() -> dict[str, int]:
        return {each.id: each.pid for each in kubectl.cluster.components()["controlplane"]}

    before, running = until(shown, "the mirror"), pids()
    assert (
        "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112"
        in before["spec"]["containers"][0]["command"]
    )
    assert "kube-controller-manager-controlplane" in kubectl("get", "pods", "-n", "kube-system")
    assert kubectl("logs", *API_SERVER)
    for _ in range(3):
        kubectl("delete", "pod", *API_SERVER, "--timeout=10s")
        after = until(shown, "the mirror again")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert pids() == running


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("kube-apiserver.yaml", "- --service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112"),
        ("kube-controller-manager.yaml", "- --cluster-cidr=10.244.0.0/16,fd00:10:244::/56"),
    ],
)
@pytest.mark.feature("A22")
def test_the_manifests_show_the_ranges(kubectl: Kubectl, file: str, line: str) -> None:
    machine = kubectl.cluster.machine("controlplane")
    found = machine.run(["grep", line.split("=")[0].strip("- "), f"/etc/kubernetes/manifests/{file}"]).stdout
    assert [each.strip() for each in found.splitlines()] == [line]
