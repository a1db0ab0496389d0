"""DaemonSets, StatefulSets, Jobs and init containers on a real cluster, watched with kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import live
import pytest
from live import until

DAEMONS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]
      containers: [{name: c, image: testbed/echo}]
"""

SET = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: c, image: testbed/echo, volumeMounts: [{name: data, mountPath: /mnt/data}]}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""

JOBS = """
apiVersion: batch/v1
kind: Job
metadata: {name: good}
spec:
  completions: 4
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: side, image: testbed/echo, restartPolicy: Always}]
      containers: [{name: c, image: busybox, command: [sh, -c, "echo index $JOB_COMPLETION_INDEX"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: ["false"]}]}
"""

STEPS = """
apiVersion: v1
kind: Pod
metadata: {name: steps}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: notes, emptyDir: {}}]
  initContainers:
    - name: first
      image: busybox
      command: [sh, -c, "echo first >> /mnt/notes/all; until [ -f /mnt/notes/go ]; do sleep 0.1; done"]
      volumeMounts: [{name: notes, mountPath: /mnt/notes}]
    - {name: side, image: testbed/echo, restartPolicy: Always}
    - name: second
      image: busybox
      command: [sh, -c, "curl -sf http://127.0.0.1:8080/ > /dev/null && echo second >> /mnt/notes/all"]
      volumeMounts: [{name: notes, mountPath: /mnt/notes}]
  containers:
    - name: main
      image: busybox
      command: [sh, -c, "cat /mnt/notes/all; sleep 1000"]
      volumeMounts: [{name: notes, mountPath: /mnt/notes}]
"""


class Kubectl(live.Kubectl):
    """kubectl on one cluster."""

    def pods(self, selector: str) -> dict[str, dict[str, Any]]:
        items = json.loads(self("get", "pods", "-o", "json", "-l", selector))["items"]
        return {pod["metadata"]["name"]: pod for pod in items}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("owners", tmp_path_factory.mktemp("owners")) as cluster:
        yield Kubectl(cluster)


def test_a_daemon_set_has_a_pod_on_every_node_and_rolls(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=DAEMONS)
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    pods = kubectl.pods("app=agent")
    nodes = ["controlplane", "node01", "node02"]
    assert sorted(pod["spec"]["nodeName"] for pod in pods.values()) == nodes
    kubectl("set", "env", "daemonset/agent", "COLOR=blue")
    kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    fresh = until(lambda: len(found := kubectl.pods("app=agent")) == 3 and found, "three daemons")
    assert not set(fresh) & set(pods)
    kubectl("delete", "daemonset", "agent")
    until(lambda: not kubectl.pods("app=agent"), "daemons are left")


def test_a_stateful_set_keeps_names_and_order(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=SET)
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    pods = kubectl.pods("app=db")
    assert sorted(pods) == ["db-0", "db-1", "db-2"]
    starts = [pods[name]["metadata"]["resourceVersion"] for name in sorted(pods)]
    assert starts == sorted(starts, key=int), "one after the other"
    listed = json.loads(kubectl("get", "endpoints", "db", "-o", "json"))
    names = {each["hostname"] for each in listed["subsets"][0]["addresses"]}
    assert names == set(pods)
    kubectl("delete", "pod", "db-1")
    again = until(lambda: kubectl.pods("app=db").get("db-1"), "db-1 comes back")
    assert again["metadata"]["uid"] != pods["db-1"]["metadata"]["uid"]
    kubectl("set", "env", "statefulset/db", "COLOR=blue")
    kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    assert all(pod["spec"]["containers"][0]["env"] for pod in kubectl.pods("app=db").values())
    kubectl("scale", "statefulset/db", "--replicas=1")
    until(lambda: list(kubectl.pods("app=db")) == ["db-0"], "db-0 alone")
    kubectl("delete", "statefulset,service", "db")
    until(lambda: not kubectl.pods("app=db"), "members are left")


@pytest.mark.feature("A23", "C2")
@pytest.mark.parametrize(("kind", "manifest"), [("daemonset", DAEMONS), ("statefulset", SET)])
def test_a_rollout_has_a_history_and_is_undone(kubectl: Kubectl, kind: str, manifest: str) -> None:
    kubectl("apply", "-f", "-", manifest=manifest)
    name = f"{kind}/{'agent' if kind == 'daemonset' else 'db'}"
    kubectl("rollout", "status", name, "--timeout=60s")
    kubectl("set", "env", name, "COLOR=blue")
    kubectl("rollout", "status", name, "--timeout=60s")
    assert kubectl("rollout", "history", name).split()[-4:] == ["1", "<none>", "2", "<none>"]
    assert "COLOR:\tblue" in kubectl("rollout", "history", name, "--revision=2")
    assert "COLOR" not in kubectl("rollout", "history", name, "--revision=1")
    kubectl("rollout", "undo", name)
    kubectl("rollout", "status", name, "--timeout=60s")
    assert "COLOR" not in kubectl("get", name, "-o", "yaml").partition("template:")[2]
    until(lambda: kubectl("rollout", "history", name).split()[-4:] == ["2", "<none>", "3", "<none>"], "no 3")
    kubectl("delete", "-f", "-", "--cascade=foreground", manifest=manifest)
    assert not kubectl.pods("app in (agent, db)"), "the owner waits for its Pods"
    until(lambda: not kubectl("get", "controllerrevisions", "-o", "name"), "revisions are left")


@pytest.mark.feature("C2")
def test_dependents_go_before_with_or_without_their_owner(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=testbed/echo", "--replicas=2")
    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    reasons = {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"}
    until(lambda: reasons <= set(kubectl("get", "events").split()), f"no events {reasons}")
    kubectl("delete", "deployment", "web", "--cascade=orphan")
    (left,) = kubectl("get", "replicasets", "-l", "app=web", "-o", "name").split()
    assert len(kubectl.pods("app=web")) == 2
    kubectl("delete", left, "--cascade=foreground", "--timeout=60s")
    assert not kubectl.pods("app=web")


def test_jobs_complete_or_fail(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=JOBS)
    kubectl("wait", "--for=condition=Complete", "job/good", "--timeout=60s")
    kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=60s")
    assert "4/4" in kubectl("get", "job", "good")
    printed = {kubectl("logs", name, "-c", "c") for name in kubectl.pods("job-name=good")}
    until(lambda: _sidecars_ended(kubectl), "sidecars run on")
    assert printed == {f"index {number}\n" for number in range(4)}
    until(lambda: "BackoffLimitExceeded" in kubectl("describe", "job", "bad"), "no event")
    kubectl("delete", "jobs", "--all")
    until(lambda: not kubectl.pods("job-name"), "Pods of Jobs are left")


def _sidecars_ended(kubectl: Kubectl) -> bool:
    pods = kubectl.pods("job-name=good").values()
    return all("terminated" in pod["status"]["initContainerStatuses"][0]["state"] for pod in pods)


def test_init_containers_come_before_the_others_in_order(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=STEPS)
    until(lambda: "Init:0/3" in kubectl("get", "pod", "steps"), "no Init:0/3")
    pod = json.loads(kubectl("get", "pod", "steps", "-o", "json"))
    place = f"/var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/notes/go"
    kubectl.cluster.machine(pod["spec"]["nodeName"]).run(["touch", place])
    kubectl("wait", "--for=condition=Ready", "pod/steps", "--timeout=60s")
    assert kubectl("logs", "steps", "-c", "main") == "first\nsecond\n"
    assert "Running" in kubectl("get", "pod", "steps")
    kubectl("delete", "pod", "steps")
