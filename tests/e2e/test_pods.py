"""What a Pod asks of its node it gets: its account, users, limits, hooks; what goes wrong is told."""

from __future__ import annotations

import json
import time
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
---
apiVersion: v1
kind: Pod
metadata: {name: witness}
spec: {containers: [{name: c, image: testbed/echo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hangs}
spec:
  nodeName: node01
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: busybox
      command: [sh, -c, "trap '' TERM; sleep 6666 & while :; do sleep 1; done"]
      livenessProbe: {exec: {command: ["false"]}, failureThreshold: 1, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: floods}
spec:
  nodeName: node01
  containers:
    - {name: c, image: busybox, command: [sh, -c, "yes | head -c 99999999; echo; echo end; sleep 999"]}
---
apiVersion: v1
kind: Pod
metadata: {name: dies}
spec:
  containers:
    - name: c
      image: agnhost
      args: [liveness]
      livenessProbe: {httpGet: {path: /healthz, port: 8080}, initialDelaySeconds: 3, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  containers:
    - name: c
      image: registry.k8s.io/e2e-test-images/agnhost:2.53
      args: [netexec, --udp-port=-1]
      ports: [{name: http, containerPort: 8080}]
      startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 60}
      readinessProbe: {exec: {command: [ls, /tmp/is-ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: secretive}
spec:
  containers:
    - name: c
      image: testbed/echo
      env: [{name: KEY, valueFrom: {secretKeyRef: {name: nowhere, key: key}}}]
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
LOG_MIB = 50
"""What is kept of a log: 5 files of 10 MiB, as kubelets do, here in one."""
HELD = """
ls /run/netns /var/lib/kubelet/pods; ip -o link | grep -o veth; ls /var/lib/cni/networks/*/ | grep '^[1f]'
"""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("pods", tmp_path_factory.mktemp("pods"), "--nodes", "1") as cluster:
        kubectl = Kubectl(cluster)
        kubectl("apply", "-f", "-", manifest=PODS)
        yield kubectl
        assert status(kubectl, "witness")["containerStatuses"][0]["restartCount"] == 0
        assert "Ready" in conditions(kubectl, "witness")


def status(kubectl: Kubectl, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "pod", pod, "-o", "json"))["status"]
    return found


def conditions(kubectl: Kubectl, pod: str) -> list[str]:
    """Those that are true."""
    return [each["type"] for each in status(kubectl, pod)["conditions"] if each["status"] == "True"]


def container(kubectl: Kubectl, pod: str) -> dict[str, Any]:
    """The status of a Pod's one container."""
    found: dict[str, Any] = (status(kubectl, pod).get("containerStatuses") or [{}])[0]
    return found


def reasons(kubectl: Kubectl, pod: str) -> list[str]:
    """Of its Events, in the order in which `describe` has them."""
    return [
        line.split()[1] for line in kubectl("describe", "pod", pod).partition("Events:")[2].splitlines()[3:]
    ]


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


def test_what_became_of_a_pod_reads_as_users_know_it(kubectl: Kubectl) -> None:
    life = ["Scheduled", "Pulled", "Created", "Started"]
    until(lambda: reasons(kubectl, "witness") == life, "the Events of a Pod that is well")
    told = kubectl("describe", "pod", "witness")
    for words in (
        "Successfully assigned default/witness to node01",
        'Container image "testbed/echo" already present on machine',
        "Created container: c",
        "Started container c",
    ):
        assert words in told


def test_probes_decide_who_has_started_and_who_is_ready(kubectl: Kubectl) -> None:
    def is_ready() -> bool:
        return "Ready" in conditions(kubectl, "probed")

    until(lambda: container(kubectl, "probed").get("started"), "the port is open")
    assert not is_ready()
    kubectl("exec", "probed", "--", "touch", "/tmp/is-ready")
    until(is_ready, "it is ready")
    kubectl("exec", "probed", "--", "rm", "/tmp/is-ready")
    until(lambda: not is_ready(), "it is not ready any more")
    assert "Readiness probe failed: ls: " in kubectl("describe", "pod", "probed")
    assert container(kubectl, "probed")["restartCount"] == 0


def test_a_secret_that_is_not_there_is_named(kubectl: Kubectl) -> None:
    until(lambda: "CreateContainerConfigError" in kubectl("get", "pod", "secretive"), "the status")
    assert 'Error: secret "nowhere" not found' in kubectl("describe", "pod", "secretive")
    kubectl("delete", "pod", "secretive", "--timeout=30s")


def test_a_program_that_hangs_is_killed_and_its_children_with_it(kubectl: Kubectl) -> None:
    def last() -> dict[str, Any]:
        found: dict[str, Any] = container(kubectl, "hangs").get("lastState", {}).get("terminated") or {}
        return found

    ended = until(last, "its probe has it ended, and it is started again")
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    told = kubectl("describe", "pod", "hangs")
    assert "Liveness probe failed" in told
    assert "Container c failed liveness probe, will be restarted" in told
    began = time.monotonic()
    kubectl("delete", "pod", "hangs", "--timeout=30s")
    assert time.monotonic() - began < 10, "its period of grace is 1 s"
    node = kubectl.cluster.machine("node01")
    assert node.run(["pgrep", "-f", "sleep 6666"], check=False).stdout == ""


def test_a_flooded_log_is_cut_at_its_beginning(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Ready", "pod/floods", "--timeout=30s")
    until(lambda: kubectl("logs", "floods", "--tail=1") == "end\n", "its last line")
    shown = ["sh", "-c", "du -m /var/log/pods/default_floods_*/c/0.log"]
    node = kubectl.cluster.machine("node01")
    until(lambda: int(node.run(shown).stdout.split()[0]) <= LOG_MIB + 1, "what is too old is cut out")
    kept = kubectl("logs", "floods")
    assert LOG_MIB - 1 < len(kept) / 2**20 < LOG_MIB + 1
    assert set(kept.split()) == {"y", "end"}
    kubectl("delete", "pod", "floods", "--grace-period=1", "--timeout=30s")
    assert node.run(shown, check=False).stdout == ""


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


def test_a_server_that_says_it_is_not_well_is_started_again(kubectl: Kubectl) -> None:
    until(lambda: container(kubectl, "dies").get("restartCount"), "10 s are over")
    told = kubectl("describe", "pod", "dies")
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in told
