"""A machine that the cluster does not know joins it with a token: certificates, Pod range, routes, Pods.

The machine is the outside client of a cluster: it has an init, files and a network of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from live import Kubectl, running, until

from testbed.lab.bootstrap import KUBECONFIG
from testbed.lab.cluster import Cluster, replace_unit, start_unit
from testbed.model.topology import CLIENT
from testbed.node.process import Process

NEW = "newcomer"
OWN = "/root/kubelet.kubeconfig"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: guest}
spec: {nodeName: newcomer, containers: [{name: echo, image: testbed/echo, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running("join", tmp_path_factory.mktemp("join"), "--nodes", "1") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster)


def kubelet(cluster: Cluster) -> Process:
    machine = cluster.machine(CLIENT)
    words = [
        "testbed",
        "kubelet",
        f"--kubeconfig={OWN}",
        f"--bootstrap-kubeconfig={cluster.state.path / KUBECONFIG}",
        f"--hostname-override={NEW}",
        f"--node-ip={machine.address}",
        "--pod-routes=auto",
        f"--client-ca-file={cluster.state.path}/pki/ca.crt",
        "--node-status-update-frequency=1s",
    ]
    return Process("kubelet", tuple(words), log="/var/log/kubelet.log", restart=True)


@pytest.fixture(scope="module")
def joined(cluster: Cluster, kubectl: Kubectl) -> dict:
    """The Node, Ready."""
    start_unit(cluster.machine(CLIENT), kubelet(cluster))

    def node() -> dict | None:
        listed = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        found = next((each for each in listed if each["metadata"]["name"] == NEW), None)
        conditions = ((found or {}).get("status") or {}).get("conditions") or []
        good = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return found if good else None

    return until(node, "the machine did not join")


def test_its_requests_were_approved_and_signed(joined: dict, kubectl: Kubectl) -> None:
    requests = json.loads(kubectl("get", "csr", "-o", "json"))["items"]
    signers = {each["spec"]["signerName"].rpartition("/")[2]: each for each in requests}
    assert signers.keys() == {"kube-apiserver-client-kubelet", "kubelet-serving"}
    assert signers["kubelet-serving"]["spec"]["username"] == f"system:node:{NEW}"
    assert all(each["status"]["certificate"] for each in requests)
    assert "Approved,Issued" in kubectl("get", "csr")


def test_the_token_is_good_for_nothing_else(joined: dict, cluster: Cluster) -> None:
    words = ["kubectl", f"--kubeconfig={cluster.state.path / KUBECONFIG}", "get", "secrets", "-A"]
    done = cluster.machine(CLIENT).run(words, check=False)
    assert done.returncode != 0
    assert "forbidden" in done.stderr


def test_it_has_a_pod_range_of_its_own(joined: dict, cluster: Cluster) -> None:
    given = joined["spec"]["podCIDR"]
    assert given not in {str(cidr) for node in cluster.spec.nodes for cidr in node.pod_cidrs}
    assert given.startswith("10.244.")


def test_it_has_routes_to_the_pods_of_every_node(joined: dict, cluster: Cluster) -> None:
    def missing() -> set[str]:
        held = cluster.machine(CLIENT).run(["ip", "route", "show", "proto", "123"]).stdout
        wanted = {f"{node.pod_cidrs[0]} via {node.address}" for node in cluster.spec.nodes}
        return {line for line in wanted if line not in held}

    until(lambda: not missing(), "routes to Pods are missing")


def test_a_pod_runs_there_and_its_log_is_read(joined: dict, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=POD)
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/guest")
    assert kubectl("exec", "guest", "--", "hostname").strip() == "guest"


def test_it_comes_back_with_the_certificate_that_it_has(
    joined: dict, cluster: Cluster, kubectl: Kubectl
) -> None:
    machine = cluster.machine(CLIENT)
    before = (machine.root / OWN.lstrip("/")).read_bytes()
    replace_unit(machine, "kubelet", kubelet(cluster))
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"node/{NEW}")
    assert (machine.root / OWN.lstrip("/")).read_bytes() == before
    assert len(json.loads(kubectl("get", "csr", "-o", "json"))["items"]) == 2
