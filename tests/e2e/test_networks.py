"""Pods' networks by our own CNI plugin, and by the reference ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from live import Kubectl, until
from scapy.layers.inet import IP, TCP

from testbed.packets.capture import Sniffer, port_filter

MACHINES = ("client", "node01", "node02")
EXAMPLE = Path(__file__).parents[2] / "examples" / "cni-bridge.conflist"

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: shown, labels: {app: shown}}
spec:
  nodeName: node01
  containers:
    - name: c
      image: testbed/echo
      ports: [{containerPort: 8080, hostPort: 8088}, {containerPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: near}
spec: {nodeName: node01, containers: [{name: c, image: testbed/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec: {nodeName: node02, containers: [{name: c, image: testbed/echo}]}
---
apiVersion: v1
kind: Service
metadata: {name: shown}
spec: {clusterIP: 10.96.77.1, selector: {app: shown}, ports: [{port: 80, targetPort: 8080}]}
"""
TAKEN = """
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  nodeName: node01
  containers: [{name: c, image: testbed/echo, ports: [{containerPort: 80, hostPort: 8088}]}]
"""


@pytest.fixture(scope="module", params=["testbed-bridge", "bridge"])
def kubectl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    words = ["--nodes", "2"] + (["--cni-conf", str(EXAMPLE)] if request.param == "bridge" else [])
    with live.running("networks", tmp_path_factory.mktemp("networks"), *words) as cluster:
        kubectl = Kubectl(cluster)
        kubectl("apply", "-f", "-", manifest=PODS)
        kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        yield kubectl


def ask(kubectl: Kubectl, place: str, url: str) -> dict[str, Any]:
    """What the server at `url` sees of `place`, a machine or a Pod."""
    words = ["curl", "-sS", "-m", "5", url]
    if place in MACHINES:
        text = kubectl.cluster.machine(place).run(words).stdout
    else:
        text = kubectl("exec", place, "--", *words)
    answer: dict[str, Any] = json.loads(text)
    return answer


def ip_of(kubectl: Kubectl, pod: str) -> str:
    return kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")


@pytest.mark.feature("A1", "A2")
def test_every_pod_sees_the_others_at_their_own_addresses(kubectl: Kubectl) -> None:
    target = f"http://{ip_of(kubectl, 'shown')}:8080/"
    for pod in ("near", "far", "shown"):
        assert ask(kubectl, pod, target)["peer"] == ip_of(kubectl, pod)


@pytest.mark.feature("A1", "A2")
def test_what_arrives_at_a_pod_bears_its_senders_address(kubectl: Kubectl) -> None:
    """By the packets themselves, captured where they arrive."""
    receiver = json.loads(kubectl("get", "pod", "shown", "-o", "json"))
    netns = kubectl.cluster.machine("node01").pod_netns(receiver)
    for pod in ("near", "far", "shown"):
        with Sniffer(netns, port_filter([8080])) as seen:
            ask(kubectl, pod, f"http://{receiver['status']['podIP']}:8080/")
            packets = [IP(data) for data in seen.read()]
        asked = {packet.src for packet in packets if packet[TCP].dport == 8080}
        assert asked == {ip_of(kubectl, pod)}


@pytest.mark.feature("A4", "B7")
def test_a_service_reaches_its_pod_from_beside_it_from_itself_and_from_afar(kubectl: Kubectl) -> None:
    for place in ("near", "far", "shown", "node01", "node02"):
        answer = ask(kubectl, place, "http://10.96.77.1/")
        assert answer["pod"] == "shown"
        assert place not in ("near", "far") or answer["peer"] == ip_of(kubectl, place)


def test_a_host_port_leads_to_its_pod_and_is_nobody_elses(kubectl: Kubectl) -> None:
    node = kubectl.cluster.machine("node01")
    for place in ("client", "node01", "node02", "far", "shown"):
        answer = ask(kubectl, place, f"http://{node.address}:8088/")
        assert answer["pod"] == "shown"
    client = kubectl.cluster.machine("client").address
    assert ask(kubectl, "client", f"http://{node.address}:8088/")["peer"] == str(client)
    kubectl("apply", "-f", "-", manifest=TAKEN)
    until(lambda: "NodePorts" in kubectl("get", "pod", "late", "--no-headers"), "it is refused")
    assert "didn't have free ports" in kubectl("describe", "pod", "late")
    kubectl("delete", "pod", "late", "shown", "--timeout=30s")
    kubectl("apply", "-f", "-", manifest=TAKEN)
    kubectl("wait", "--for=condition=Ready", "pod/late", "--timeout=30s")
    assert ask(kubectl, "client", f"http://{node.address}:8088/")["pod"] == "late"
