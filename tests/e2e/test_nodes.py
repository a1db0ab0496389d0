"""Pods and the nodes they are on: spread, kept apart, driven away; and a node that is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import live
import pytest
from live import until

GRACE = 4.0
SLACK = 4.0
"""Seconds that a busy machine may take on top of the grace period."""

APART = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 3
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
        - {key: dedicated, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers: [{name: c, image: testbed/echo, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: apart}
spec: {selector: {app: apart}, ports: [{port: 80, targetPort: 8080}]}
"""


class Kubectl(live.Kubectl):
    """kubectl on one cluster."""

    def pods(self) -> dict[str, dict[str, Any]]:
        """Those of `apart` that are not on their way out, by node; "" for one that has none."""
        items = json.loads(self("get", "pods", "-l", "app=apart", "-o", "json"))["items"]
        kept = [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]
        return {pod["spec"].get("nodeName", ""): pod for pod in kept}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    words = ("--node-monitor-grace-period", f"{GRACE:g}s")
    with live.running("nodes", tmp_path_factory.mktemp("nodes"), *words) as cluster:
        yield Kubectl(cluster)


@pytest.mark.feature("A3")
def test_pods_that_will_not_be_together_wait_for_a_node_of_their_own(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=APART)
    until(lambda: set(kubectl.pods()) == {"node01", "node02", ""}, "two nodes for three Pods")
    waiting = kubectl.pods()[""]["metadata"]["name"]
    told = "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"
    until(lambda: told in kubectl("describe", "pod", waiting), "no word on why it waits")
    assert "2 node(s) didn't match pod anti-affinity rules" in kubectl("describe", "pod", waiting)


@pytest.mark.feature("A3", "D11")
def test_a_taint_drives_pods_away_when_their_time_is_over(kubectl: Kubectl) -> None:
    until(lambda: kubectl("get", "endpoints", "apart").count(":8080") == 2, "two endpoints")
    old = kubectl.pods()["node01"]
    kubectl("taint", "node", "node01", "dedicated=db:NoExecute")
    until(lambda: set(kubectl.pods()) == {"node02", ""}, "it is still there")
    assert "TaintManagerEviction" in kubectl(
        "get", "events", "--field-selector", f"involvedObject.uid={old['metadata']['uid']}"
    )
    kubectl("taint", "node", "node01", "dedicated-")
    until(lambda: set(kubectl.pods()) == {"node01", "node02", ""}, "the node is free again")


@pytest.mark.feature("A3", "D11")
def test_a_killed_node_is_out_of_all_rules_after_the_grace_period(kubectl: Kubectl) -> None:
    until(lambda: kubectl("get", "endpoints", "apart").count(":8080") == 2, "two endpoints")
    dead = kubectl.pods()["node02"]["status"]["podIP"]
    rules = ["iptables-save", "-t", "nat"]
    node = kubectl.cluster.machine("node01")
    until(lambda: dead in node.run(rules).stdout, "rules for both")
    killed = time.monotonic()
    os.kill(kubectl.cluster.machine("node02").init_pid, signal.SIGKILL)
    until(lambda: "NotReady" in kubectl("get", "node", "node02"), "the node is not missed")
    until(lambda: dead not in node.run(rules).stdout, "rules still lead there")
    assert GRACE * 0.7 <= time.monotonic() - killed <= GRACE + SLACK
    taints = json.loads(kubectl("get", "node", "node02", "-o", "json"))["spec"]["taints"]
    assert {taint["effect"] for taint in taints} == {"NoSchedule", "NoExecute"}
    until(lambda: set(kubectl.pods()) == {"node01", ""}, "its Pod is not replaced")
    address = json.loads(kubectl("get", "service", "apart", "-o", "json"))["spec"]["clusterIP"]
    for _ in range(8):
        assert json.loads(node.run(["curl", "-s", "-m", "5", address]).stdout)["node"] == "node01"


def test_pods_of_a_node_that_is_taken_out_are_forgotten(kubectl: Kubectl) -> None:
    kubectl("delete", "node", "node02")
    listed = ("get", "pods", "-A", "--field-selector", "spec.nodeName=node02", "-o", "name")
    until(lambda: not kubectl(*listed), "Pods of a node that is none")
