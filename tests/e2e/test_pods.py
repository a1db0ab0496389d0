"""What a Pod asks of its node it gets: its account, users, limits, hooks; what goes wrong is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import live
import pytest
from live import Kubectl, until

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: furnished}
spec:
  restartPolicy: Never
  volumes: [{name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
  containers:
    - name: c
      image: busybox
      command: [sh, -c]
      args:
        - |
          cd /var/run/secrets/kubernetes.io/serviceaccount
          echo in $(cat namespace)
          curl -sS --cacert ca.crt -H "Authorization: Bearer $(cat token)" \\
            https://kubernetes.default.svc/api/v1/namespaces/default/pods | grep -o 'serviceaccount:[a-z:]*'
          echo user $(id -u) $(id -g); touch /x || echo read-only
          head -c 2097152 /dev/zero > /memory/x; stat -c %s /memory/x; echo $CPU $MEMORY
          echo these were my last words > /dev/termination-log; exit 3
      securityContext: {runAsUser: 1000, runAsGroup: 1001, readOnlyRootFilesystem: true}
      resources: {limits: {cpu: 250m, memory: 64Mi}}
      env:
        - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
        - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
      volumeMounts: [{name: memory, mountPath: /memory}]
---
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  nodeName: node01
  terminationGracePeriodSeconds: 20
  initContainers:
    - name: sidecar
      image: busybox
      restartPolicy: Always
      command: [sh, -c, "trap 'echo sidecar >> /tmp/hooked; exit' TERM; while :; do sleep 0.1; done"]
  containers:
    - name: c
      image: busybox
      command: [sh, -c, "trap 'echo main >> /tmp/hooked; exit' TERM; while :; do sleep 0.1; done"]
      lifecycle:
        postStart: {exec: {command: [sh, -c, "echo postStart >> /tmp/hooked"]}}
        preStop: {exec: {command: [sh, -c, "sleep 0.5; echo preStop >> /tmp/hooked"]}}
---
apiVersion: v1
kind: Pod
metadata: {name: badly-hooked}
spec:
  containers:
    - name: c
      image: testbed/echo
      lifecycle: {postStart: {exec: {command: ["false"]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: root}
spec:
  securityContext: {runAsNonRoot: true}
  containers: [{name: c, image: testbed/echo}]
"""

BROKEN = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec: {{nodeName: node01, containers: [{{name: c, image: testbed/echo}}]}}
"""
PLUGIN = """
mkdir -p /opt/cni/bin && cat > /opt/cni/bin/broken && chmod +x /opt/cni/bin/broken
echo '{{"cniVersion": "1.0.0", "name": "broken", "plugins": [{{"type": "broken"}}]}}' > /etc/cni/net.d/{file}
"""
HELD = """
ls /run/netns /var/lib/kubelet/pods; ip -o link | grep -o veth; ls /var/lib/cni/networks/*/ | grep '^[1f]'
"""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("pods", tmp_path_factory.mktemp("pods"), "--nodes", "1") as cluster:
        kubectl = Kubectl(cluster)
        kubectl("apply", "-f", "-", manifest=PODS)
        yield kubectl


def status(kubectl: Kubectl, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "pod", pod, "-o", "json"))["status"]
    return found


def is_in(kubectl: Kubectl, phase: str, pod: str) -> bool:
    return status(kubectl, pod)["phase"] == phase


def test_a_program_finds_its_account_and_is_who_it_should_be(kubectl: Kubectl) -> None:
    until(lambda: is_in(kubectl, "Failed", "furnished"), "it exits with 3")
    lines = kubectl("logs", "furnished").splitlines()
    assert "in default" in lines
    assert "serviceaccount:default:default" in lines
    assert "user 1000 1001" in lines
    assert "read-only" in lines
    assert "1048576" in lines, "the volume takes no more than its limit"
    assert "250 67108864" in lines
    ended = status(kubectl, "furnished")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "these were my last words\n")


def test_hooks_run_around_a_life_and_sidecars_end_last(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Ready", "pod/hooked", "--timeout=30s")
    kubectl("delete", "pod", "hooked", "--timeout=30s")
    told = kubectl.cluster.machine("node01").run(["cat", "/tmp/hooked"]).stdout
    assert told.split() == ["postStart", "preStop", "main", "sidecar"]


def test_a_hook_that_fails_and_a_user_that_may_not_are_told(kubectl: Kubectl) -> None:
    until(lambda: "FailedPostStartHook" in kubectl("describe", "pod", "badly-hooked"), "the Event")
    until(lambda: "image will run as root" in kubectl("describe", "pod", "root"), "the Event")
    assert "CreateContainerConfigError" in kubectl("get", "pod", "root")


def test_a_plugin_that_fails_or_hangs_is_told_and_leaves_nothing(kubectl: Kubectl) -> None:
    node = kubectl.cluster.machine("node01")
    before = node.run(["sh", "-c", HELD], check=False).stdout
    cases = {
        "fails": ('#!/bin/sh\necho \'{"code": 11, "msg": "out of luck"}\'; exit 1\n', "out of luck"),
        "hangs": ("#!/bin/sh\nsleep 8888 & sleep 9999\n", "did not end within 15 s"),
    }
    for name, (program, told) in cases.items():
        node.run(["sh", "-c", PLUGIN.format(file="00-broken.conflist")], input=program)
        kubectl("apply", "-f", "-", manifest=BROKEN.format(name=name))
        until(lambda name=name, told=told: told in kubectl("describe", "pod", name), told)
        assert "ContainerCreating" in kubectl("get", "pod", name)
        node.run(["rm", "/etc/cni/net.d/00-broken.conflist"])
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        kubectl("delete", "pod", name, "--timeout=30s")
    assert node.run(["pgrep", "-f", "sleep 9999"], check=False).stdout == ""
    until(lambda: node.run(["sh", "-c", HELD], check=False).stdout == before, "what is left")
