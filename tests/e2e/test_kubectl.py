"""The unmodified kubectl against `testbed apiserver`, over TLS on the loopback address."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.api import pki

DEADLINE = 60.0
"""Seconds; a loaded machine is no failure."""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: nginx
        image: nginx:1.14
        ports: [{containerPort: 80, name: http}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Api:
    """A server of its own, and kubectl pointed at it."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def flags(self) -> list[str]:
        files = self.directory / "pki"
        return [
            f"--db={self.directory / 'api.db'}",
            "--advertise-address=192.0.2.10",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={files / 'apiserver.crt'}",
            f"--tls-private-key-file={files / 'apiserver.key'}",
            f"--client-ca-file={files / 'ca.crt'}",
            f"--service-account-signing-key-file={files / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--service-node-port-range=30000-32767",
        ]

    def start(self) -> None:
        argv = [sys.executable, "-m", "testbed.cli.main", "apiserver", *self.flags]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.until(lambda: self.kubectl("get", "--raw", "/readyz", check=False).stdout == "ok")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not holds():
            assert time.monotonic() < end, (self.directory / "log").read_text()
            time.sleep(0.05)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "HOME": str(self.directory),
            "KUBECONFIG": str(self.directory / "admin.kubeconfig"),
        }
        return subprocess.Popen(
            ["kubectl", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        process = self.popen(*words)
        out, err = process.communicate(stdin, timeout=DEADLINE)
        assert not check or process.returncode == 0, f"kubectl {' '.join(words)}: {err}"
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def out(self, *words: str, stdin: str = "") -> str:
        return self.kubectl(*words, stdin=stdin).stdout

    def refused(self, *words: str, stdin: str = "") -> str:
        """What kubectl says of a line that must fail."""
        done = self.kubectl(*words, stdin=stdin, check=False)
        assert done.returncode == 1
        return done.stderr

    def json(self, *words: str) -> dict:
        return json.loads(self.out(*words, "-o", "json"))


def _prepared(directory: Path) -> Api:
    api = Api(directory, free_port())
    authority = pki.ensure_authority(directory / "pki")
    hosts = pki.api_server_hosts("10.96.0.1")
    pki.issue_server(authority, "kube-apiserver", hosts).write(directory / "pki", "apiserver")
    for file, user, groups in (
        ("admin", "kubernetes-admin", ["system:masters"]),
        ("proxy", "system:kube-proxy", []),
        ("node", "system:node:node01", ["system:nodes"]),
    ):
        pair = pki.issue_client(authority, user, groups)
        server = f"https://127.0.0.1:{api.port}"
        pki.write_kubeconfig(
            directory / f"{file}.kubeconfig", server, authority.pem, pair.certificate, pair.key, user=file
        )
    return api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = _prepared(tmp_path_factory.mktemp("api"))
    api.start()
    yield api
    assert api.stop() == 0
    assert "Traceback" not in (api.directory / "log").read_text()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{time.monotonic_ns()}"
    api.out(
        "create",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
    yield name
    for kinds in ("pods,services,deployments", "configmaps,secrets"):
        api.out("delete", kinds, "--all", "-n", name, "--force", "--grace-period=0")


def manifest(kind: str, name: str, version: str = "v1", **rest: object) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest})


def pod(name: str, node: str = "", labels: dict[str, str] | None = None) -> str:
    spec: dict[str, object] = {"containers": [{"name": "c", "image": "nginx"}]}
    if node:
        spec["nodeName"] = node
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": spec,
        }
    )


@pytest.mark.feature("C3")
def test_a_cluster_begins_with_its_namespaces_and_the_kubernetes_service(api: Api) -> None:
    names = api.out("get", "namespaces", "-o", "name").split()
    assert {f"namespace/{n}" for n in ("default", "kube-system", "kube-public", "kube-node-lease")} <= set(
        names
    )
    line = api.out("get", "service", "kubernetes").splitlines()[1].split()
    assert line[:5] == ["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP"]
    assert f"192.0.2.10:{api.port}" in api.out("get", "endpoints", "kubernetes")
    assert "192.0.2.10" in api.out("get", "endpointslices", "kubernetes")


@pytest.mark.feature("C1", "C2")
def test_apply_changes_only_what_changed(api: Api, namespace: str) -> None:
    for expected in ("created", "unchanged"):
        told = api.out("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
        assert told == f"deployment.apps/web {expected}\nservice/web {expected}\n"
    changed = DEPLOYMENT.replace("nginx:1.14", "nginx:1.15")
    told = api.out("apply", "-n", namespace, "-f", "-", stdin=changed)
    assert told == "deployment.apps/web configured\nservice/web unchanged\n"
    deployment = api.json("get", "deployment", "web", "-n", namespace)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nginx:1.15"
    assert container["ports"] == [{"containerPort": 80, "name": "http", "protocol": "TCP"}]
    assert deployment["metadata"]["generation"] == 2


@pytest.mark.feature("A23", "C4")
def test_tables_look_as_kubectl_users_know_them(api: Api, namespace: str) -> None:
    api.out("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
    api.out("create", "-n", namespace, "-f", "-", stdin=pod("p"))
    shown = {
        kind: api.out("get", kind, "-n", namespace, "-o", "wide").splitlines()
        for kind in ("deployments", "services", "pods")
    }
    assert shown["deployments"][0].split() == [
        "NAME",
        "READY",
        "UP-TO-DATE",
        "AVAILABLE",
        "AGE",
        "CONTAINERS",
        "IMAGES",
        "SELECTOR",
    ]
    assert shown["deployments"][1].split()[:4] == ["web", "0/3", "0", "0"]
    assert shown["services"][0].split() == [
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AGE",
        "SELECTOR",
    ]
    assert shown["services"][1].split()[1] == "NodePort"
    header = "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    assert " ".join(shown["pods"][0].split()) == header
    assert shown["pods"][1].split()[:4] == ["p", "0/1", "Pending", "0"]


def test_nodes_show_their_roles_and_addresses(api: Api) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node09", "labels": {"node-role.kubernetes.io/worker": ""}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.32.0", "osImage": "Debian"},
        },
    }
    api.out("create", "-f", "-", stdin=json.dumps(node))
    line = api.out("get", "nodes", "-o", "wide").splitlines()[1].split()
    assert line[:3] == ["node09", "Ready", "worker"]
    assert line[4:8] == ["v1.32.0", "192.0.2.9", "<none>", "Debian"]
    assert "InternalIP:  192.0.2.9" in api.out("describe", "node", "node09")
    api.out("delete", "node", "node09")


@pytest.mark.feature("A23", "C2")
def test_expose_scale_label_annotate_patch(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", *here, "-f", "-", stdin=DEPLOYMENT)
    api.out("expose", "deployment", "web", "--name=inner", "--port=8080", "--target-port=80", *here)
    assert api.json("get", "service", "inner", *here)["spec"]["ports"][0]["targetPort"] == 80
    api.out("scale", "deployment", "web", "--replicas=5", *here)
    assert api.json("get", "deployment", "web", *here)["spec"]["replicas"] == 5
    api.out("label", "deployment", "web", "tier=front", *here)
    assert (
        api.out("get", "deployments", "-l", "tier in (front,back)", "-o", "name", *here)
        == "deployment.apps/web\n"
    )
    assert api.out("get", "deployments", "-l", "!tier", "-o", "name", *here) == ""
    api.out("annotate", "deployment", "web", "a=b", *here)
    patches = (
        ("strategic", '{"spec":{"ports":[{"port":443,"name":"tls"},{"port":80,"name":"web"}]}}'),
        ("merge", '{"spec":{"sessionAffinity":"ClientIP"}}'),
        ("json", '[{"op":"replace","path":"/spec/selector/app","value":"other"}]'),
    )
    for kind, text in patches:
        api.out("patch", "service", "web", "--type", kind, "-p", text, *here)
    spec = api.json("get", "service", "web", *here)["spec"]
    assert {(port["name"], port["port"]) for port in spec["ports"]} == {("web", 80), ("tls", 443)}
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert spec["selector"] == {"app": "other"}


def test_describe_rollout_wait(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", *here, "-f", "-", stdin=DEPLOYMENT)
    assert "NodePort:                 <unset>  3" in api.out("describe", "service", "web", *here)
    assert "3 desired" in api.out("describe", "deployment", "web", *here)
    status = {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    waiting = api.popen("rollout", "status", "deployment/web", "--timeout=50s", *here)
    api.out(
        "patch",
        "deployment",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
        *here,
    )
    out, err = waiting.communicate(timeout=DEADLINE)
    assert "successfully rolled out" in out, err
    assert "condition met" in api.out(
        "wait", "--for=condition=Available", "deployment/web", "--timeout=5s", *here
    )
    assert api.json("get", "deployment", "web", *here)["metadata"]["generation"] == 1


@pytest.mark.feature("C2")
def test_watch_tells_of_each_change_in_order(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    process = api.popen("get", "pods", "-w", "--no-headers", "--output-watch-events", "-l", "app=w", *here)
    assert process.stdout
    steps = (
        (("create", "-f", "-"), pod("one", labels={"app": "w"}), "ADDED"),
        (("annotate", "pod", "one", "a=b"), "", "MODIFIED"),
        (("label", "pod", "one", "app=x", "--overwrite"), "", "DELETED"),
        (("label", "pod", "one", "app=w", "--overwrite"), "", "ADDED"),
        (("delete", "pod", "one"), "", "DELETED"),
    )
    seen = []
    for words, text, _ in steps:
        api.out(*words, *here, stdin=text)
        seen.append(process.stdout.readline().split()[:2])
    process.terminate()
    process.communicate(timeout=10)
    assert seen == [[event, "one"] for _, _, event in steps]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"clusterIP": "192.0.2.1", "ports": [{"port": 80}]},
            'spec.clusterIPs: Invalid value: []string{"192.0.2.1"}: failed to allocate IP 192.0.2.1: '
            "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
        ),
        (
            {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
            'spec.clusterIPs: Invalid value: []string{"10.96.0.1"}: failed to allocate IP 10.96.0.1: '
            "provided IP is already allocated",
        ),
        (
            {"clusterIP": "10.96.0", "ports": [{"port": 80}]},
            'spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, '
            "(e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. "
            "The range of valid ports is 30000-32767",
        ),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        ({}, "spec.ports: Required value"),
        (
            {"ports": [{"port": 0}]},
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"port": 80, "protocol": "ICMP"}]},
            'spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "Other", "ports": [{"port": 80}]},
            'spec.type: Unsupported value: "Other": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"',
        ),
    ],
)
@pytest.mark.feature("A11", "A13", "C5")
def test_services_that_break_a_rule_are_refused_in_kubernetes_words(
    api: Api, namespace: str, spec: dict, told: str
) -> None:
    text = manifest("Service", "wrong", spec=spec)
    refusal = api.refused("create", "-n", namespace, "-f", "-", stdin=text)
    assert 'The Service "wrong" is invalid' in refusal
    assert told in refusal


@pytest.mark.feature("C5")
def test_refusals(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    assert 'pods "none" not found' in api.refused("get", "pod", "none", *here)
    assert 'namespaces "none" not found' in api.refused("create", "-n", "none", "-f", "-", stdin=pod("p"))
    api.out("create", "-f", "-", *here, stdin=pod("p"))
    assert "AlreadyExists" in api.refused("create", "-f", "-", *here, stdin=pod("p"))
    assert 'namespaces "default" is forbidden' in api.refused("delete", "namespace", "default")
    assert 'Invalid value: "P_1"' in api.refused("create", "-f", "-", *here, stdin=pod("P_1"))
    assert "field label not supported" in api.refused("get", "pods", "--field-selector", "spec.x=y", *here)
    stale = api.json("get", "pod", "p", *here)
    api.out("label", "pod", "p", "a=b", *here)
    assert "the object has been modified" in api.refused("replace", "-f", "-", *here, stdin=json.dumps(stale))


def test_services_of_all_kinds(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    ports = [{"port": 80}]
    for name, spec in (
        ("chosen", {"clusterIP": "10.96.200.200", "ports": ports}),
        ("headless", {"clusterIP": "None", "selector": {"a": "b"}}),
        ("outer", {"type": "ExternalName", "externalName": "example.com"}),
        ("fixed", {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}),
        ("balanced", {"type": "LoadBalancer", "ports": ports}),
    ):
        api.out("create", "-f", "-", *here, stdin=manifest("Service", name, spec=spec))
    rows = {line.split()[0]: line.split()[1:5] for line in api.out("get", "svc", *here).splitlines()[1:]}
    assert rows["chosen"][1] == "10.96.200.200"
    assert rows["headless"] == ["ClusterIP", "None", "<none>", "<none>"]
    assert rows["outer"] == ["ExternalName", "<none>", "example.com", "<none>"]
    assert rows["fixed"][3] == "80:30123/TCP"
    assert rows["balanced"][2] == "<pending>"
    again = manifest("Service", "again", spec={"clusterIP": "10.96.200.200", "ports": ports})
    assert "already allocated" in api.refused("create", "-f", "-", *here, stdin=again)
    api.out("delete", "service", "chosen", *here)
    api.out("create", "-f", "-", *here, stdin=again)


@pytest.mark.feature("C1", "A23")
def test_the_create_commands_which_speak_protobuf(api: Api, namespace: str) -> None:
    """kubectl sends these in protobuf; what is stored is what its own dry run shows in JSON."""
    here = ("-n", namespace)
    for words in (
        ("configmap", "c", "--from-literal=a=b"),
        ("secret", "generic", "s", "--from-literal=p=q"),
        ("serviceaccount", "sa"),
        ("deployment", "d", "--image=nginx", "--port=80", "--replicas=0", "--", "sleep", "5"),
        ("job", "j", "--image=busybox", "--", "true"),
        ("service", "clusterip", "plain", "--tcp=80:8080", "--clusterip=10.96.100.100"),
        ("service", "clusterip", "headless", "--tcp=80:http", "--clusterip=None"),
        ("service", "nodeport", "np", "--tcp=80", "--node-port=30777"),
        ("service", "externalname", "en", "--external-name=example.com"),
    ):
        sent = json.loads(api.out("create", "--dry-run=client", "-o", "json", *here, *words))
        name = api.out("create", "-o", "name", *here, *words).strip()
        stored = api.json("get", name, *here)
        assert_within(sent, stored, name)
    api.out("create", "namespace", f"{namespace}-other")
    api.out("delete", "deployments,jobs", "--all", *here)


def assert_within(sent: Any, stored: Any, where: str) -> None:
    """All that was sent is stored; the server may have added to it."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            if value not in (None, {}) and key != "status":
                assert key in stored, f"{where}.{key}"
                assert_within(value, stored[key], f"{where}.{key}")
    elif isinstance(sent, list):
        assert len(sent) == len(stored), where
        for at, value in enumerate(sent):
            assert_within(value, stored[at], f"{where}[{at}]")
    else:
        assert sent == stored, where


def test_a_scheduled_pod_ends_gracefully(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "-f", "-", *here, stdin=pod("bound", node="node01"))
    api.out("delete", "pod", "bound", "--wait=false", *here)
    held = api.json("get", "pod", "bound", *here)
    assert held["metadata"]["deletionGracePeriodSeconds"] == 30
    assert api.out("get", "pod", "bound", *here).splitlines()[1].split()[2] == "Terminating"
    api.out("delete", "pod", "bound", "--force", "--grace-period=0", *here)
    assert "not found" in api.refused("get", "pod", "bound", *here)


@pytest.mark.feature("C2")
def test_lists_in_pieces_and_by_field(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    documents = "\n".join(pod(f"p{i}", node=f"node{i % 2}") for i in range(7))
    api.out("create", "-f", "-", *here, stdin=documents)
    assert len(api.out("get", "pods", "--chunk-size=3", "-o", "name", *here).split()) == 7
    found = api.out("get", "pods", "--field-selector", "spec.nodeName=node1", "-o", "name", *here).split()
    assert found == ["pod/p1", "pod/p3", "pod/p5"]


@pytest.mark.feature("C2")
def test_dry_run_and_server_side_apply(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", "--dry-run=server", "-f", "-", *here, stdin=DEPLOYMENT)
    assert api.out("get", "deployments,services", "-o", "name", *here) == ""
    api.out("apply", "--server-side", "-f", "-", *here, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 3", "replicas: 4")
    api.out("apply", "--server-side", "-f", "-", *here, stdin=changed)
    assert api.json("get", "deployment", "web", *here)["spec"]["replicas"] == 4


def as_user(api: Api, user: str, *words: str, stdin: str = "") -> str:
    """What kubectl says, whether it is an answer or a refusal."""
    config = api.directory / f"{user}.kubeconfig"
    done = api.kubectl("--kubeconfig", str(config), *words, stdin=stdin, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.mark.feature("C7")
def test_who_may_do_what(api: Api) -> None:
    assert "kubernetes" in as_user(api, "proxy", "get", "services", "-A")
    told = as_user(api, "proxy", "get", "secrets", "-A")
    assert 'User "system:kube-proxy" cannot list resource "secrets"' in told
    assert 'cannot delete resource "services"' in as_user(api, "node", "delete", "service", "kubernetes")


@pytest.mark.feature("C7")
def test_a_node_writes_what_is_its_own(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    for name in ("node01", "node02"):
        told = as_user(api, "node", "create", "-f", "-", stdin=manifest("Node", name))
        assert ("created" in told) == (name == "node01"), told
    api.out("create", "-f", "-", stdin=manifest("Node", "node02"))
    assert 'not allowed to modify node "node02"' in as_user(api, "node", "label", "node", "node02", "a=b")
    assert "labeled" in as_user(api, "node", "label", "node", "node01", "a=b")
    for name, told in (("node01", "created"), ("node02", "same name as the requesting node")):
        lease = manifest("Lease", name, "coordination.k8s.io/v1")
        assert told in as_user(api, "node", "create", "-n", "kube-node-lease", "-f", "-", stdin=lease)
    api.out("create", *here, "-f", "-", stdin=pod("mine", "node01") + "\n" + pod("others", "node02"))
    patch = ("--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
    assert "patched" in as_user(api, "node", "patch", "pod", "mine", *here, *patch)
    assert "spec.nodeName set to itself" in as_user(api, "node", "patch", "pod", "others", *here, *patch)
    for name in ("asked-for", "secret"):
        api.out("create", "configmap", name, *here)
    container = {"name": "c", "image": "x", "envFrom": [{"configMapRef": {"name": "asked-for"}}]}
    spec = {"nodeName": "node01", "containers": [container]}
    api.out("create", *here, "-f", "-", stdin=manifest("Pod", "reads", spec=spec))
    assert "asked-for" in as_user(api, "node", "get", "configmap", "asked-for", *here)
    assert "no relationship found" in as_user(api, "node", "get", "configmap", "secret", *here)
    api.out("delete", "nodes", "node01", "node02")
    api.out("delete", "lease", "node01", "-n", "kube-node-lease")


def test_roles_and_bindings_give_and_take(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "serviceaccount", "robot", *here)
    token = api.out("create", "token", "robot", *here).strip()
    me, ours = f"system:serviceaccount:{namespace}:robot", f"{namespace}:robot"

    def told(*words: str) -> str:
        flags = ["--kubeconfig=/dev/null", f"--server=https://127.0.0.1:{api.port}", f"--token={token}"]
        flags.append(f"--certificate-authority={api.directory / 'pki/ca.crt'}")
        done = api.kubectl(*flags, *words, check=False)
        return done.stdout + done.stderr

    assert me in told("auth", "whoami")
    assert told("auth", "can-i", "list", "pods", *here) == "no\n"
    assert f'User "{me}" cannot list resource "pods"' in told("get", "pods", *here)
    api.out("create", "role", "reader", "--verb=get,list", "--resource=pods", *here)
    api.out("create", "rolebinding", "robot", "--role=reader", f"--serviceaccount={ours}", *here)
    assert told("auth", "can-i", "list", "pods", *here) == "yes\n"
    assert "No resources found" in told("get", "pods", *here)
    assert "no\n" in told("auth", "can-i", "list", "pods", "-A")
    assert "pods" in told("auth", "can-i", "--list", *here)
    assert api.out("auth", "can-i", "delete", "pods", *here) == "yes\n"
    assert "Role/reader" in api.out("get", "rolebindings", *here)
    assert api.out("auth", "can-i", "list", "pods", *here, "--as", me) == "yes\n"
    assert "cannot impersonate" in told("get", "pods", *here, "--as=kubernetes-admin")
    api.out("delete", "rolebinding", "robot", *here)
    assert "cannot list" in told("get", "pods", *here)
    group = f"--group=system:serviceaccounts:{namespace}"
    api.out("create", "clusterrolebinding", "robots", "--clusterrole=view", group)
    assert "No resources found" in told("get", "pods", *here)
    assert "cannot list" in told("get", "secrets", *here)
    api.out("delete", "clusterrolebinding", "robots")
    api.out("delete", "serviceaccount", "robot", *here)
    assert "Unauthorized" in told("get", "--raw", "/api")


def test_wrong_roles_are_refused(api: Api, namespace: str) -> None:
    rbac, here = "rbac.authorization.k8s.io/v1", ("-n", namespace, "-f", "-")
    rule = {"apiGroups": [""], "resources": ["pods"]}
    told = api.refused("create", *here, stdin=manifest("Role", "r", rbac, rules=[rule]))
    assert "rules[0].verbs: Required value" in told
    reference = {"kind": "Nobody", "name": "x", "apiGroup": "rbac.authorization.k8s.io"}
    told = api.refused("create", *here, stdin=manifest("RoleBinding", "r", rbac, roleRef=reference))
    assert "roleRef.kind: Unsupported value" in told


@pytest.mark.feature("C7")
def test_anonymous_callers_see_health_and_version_only(api: Api) -> None:
    def ask(path: str, **headers: str) -> int:
        trust = ssl.create_default_context(cafile=str(api.directory / "pki" / "ca.crt"))
        with closing(http.client.HTTPSConnection("127.0.0.1", api.port, context=trust)) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    assert [ask(path) for path in ("/healthz", "/livez", "/readyz", "/version")] == [200] * 4
    assert [ask(path) for path in ("/api/v1/services", "/api", "/openapi/v3", "/")] == [403] * 4
    assert ask("/version", Authorization="Bearer nobody") == 401


@pytest.mark.feature("C6")
def test_a_killed_server_comes_back_with_all_it_acknowledged(tmp_path: Path) -> None:
    api = _prepared(tmp_path)
    api.start()
    service = manifest("Service", "kept", spec={"type": "NodePort", "ports": [{"port": 80}]})
    api.out("create", "-f", "-", stdin=service)
    before = api.json("get", "service", "kept")
    assert api.stop(signal.SIGKILL) == -signal.SIGKILL
    api.start()
    assert api.json("get", "service", "kept") == before
    spec = {"clusterIP": before["spec"]["clusterIP"], "ports": [{"port": 80}]}
    assert "already allocated" in api.refused(
        "create", "-f", "-", stdin=manifest("Service", "thief", spec=spec)
    )
    assert api.stop() == 0


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--cluster-cidr=10.100.0.0/16"], "overlaps"),
        (["--service-node-port-range=5-1"], "is not A-B"),
        (["--service-cluster-ip-range=10.96.0.1/12"], "is not a network"),
        (["--tls-cert-file=/nonexistent"], "TLS files"),
        (["--db=/proc/none/api.db"], "--db"),
        (["--advertise-address=here"], "--advertise-address"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_2(tmp_path: Path, extra: list[str], told: str) -> None:
    api = _prepared(tmp_path)
    argv = [sys.executable, "-m", "testbed.cli.main", "apiserver", *api.flags, *extra]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line


def test_a_port_that_is_taken_is_one_line_and_exit_2(tmp_path: Path) -> None:
    api = _prepared(tmp_path)
    with socket.create_server(("127.0.0.1", api.port)):
        argv = [sys.executable, "-m", "testbed.cli.main", "apiserver", *api.flags]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.feature("C5")
def test_unknown_fields_are_refused_warned_of_or_taken(api: Api, namespace: str) -> None:
    here = ("-n", namespace, "-f", "-")
    wrong = DEPLOYMENT.replace("replicas: 3", "replica: 3")
    assert 'strict decoding error: unknown field "spec.replica"' in api.refused("apply", *here, stdin=wrong)
    assert (
        'Warning: unknown field "spec.replica"'
        in api.kubectl("apply", "--validate=warn", *here, stdin=wrong).stderr
    )
    assert api.kubectl("apply", "--validate=ignore", *here, stdin=wrong).stderr == ""


def test_events_are_the_same_in_both_groups(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    regarding = {"kind": "Pod", "namespace": namespace, "name": "p"}
    told: dict[str, object] = {
        "regarding": regarding,
        "note": "went well",
        "reason": "Tried",
        "type": "Normal",
    }
    told |= {"reportingController": "me", "reportingInstance": "1", "action": "Try"}
    told["eventTime"] = "2030-01-01T00:00:00.000000Z"
    api.out("create", *here, "-f", "-", stdin=manifest("Event", "e", "events.k8s.io/v1", **told))
    event = api.json("get", "events", "e", *here)
    assert (event["apiVersion"], event["message"], event["involvedObject"]) == ("v1", "went well", regarding)
    event = api.json("get", "events.events.k8s.io", "e", *here)
    assert (event["apiVersion"], event["note"]) == ("events.k8s.io/v1", "went well")
    selected = ("get", "events.events.k8s.io", "-o", "json", "--field-selector")
    for name, count in (("p", 1), ("q", 0)):
        assert len(json.loads(api.out(*selected, f"regarding.name={name}", *here))["items"]) == count
    assert "went well" in api.out("events", *here)
    api.out("delete", "events.events.k8s.io", "e", *here)
    assert api.out("get", "events", "-o", "name", *here) == ""


@pytest.mark.feature("C2")
def test_fields_have_managers_and_managers_have_conflicts(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    both = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {a: b}}\ndata: {x: '1', w: '1'}\n"
    apply = ("apply", "--server-side", *here, "-f", "-")
    api.out(*apply, "--field-manager=one", stdin=both)
    before = api.json("get", "configmap", "m", *here, "--show-managed-fields")
    (entry,) = before["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    labelled = {"f:labels": {"f:a": {}}}
    assert entry["fieldsV1"] == {"f:data": {"f:x": {}, "f:w": {}}, "f:metadata": labelled}
    api.out(*apply, "--field-manager=one", stdin=both)
    assert api.json("get", "configmap", "m", *here, "--show-managed-fields") == before
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {x: '2', z: '2'}\n"
    told = api.refused(*apply, "--field-manager=two", stdin=other)
    assert 'Apply failed with 1 conflict: conflict with "one" using v1: .data.x' in told
    api.out(*apply, "--field-manager=two", "--force-conflicts", stdin=other)
    api.out("patch", "configmap", "m", *here, "-p", '{"data":{"w":"3"}}')
    assert 'conflict with "kubectl-patch" using v1: .data.w' in api.refused(
        *apply, "--field-manager=one", stdin=both.replace("x: '1', ", "")
    )
    api.out(*apply, "--field-manager=one", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n")
    held = api.json("get", "configmap", "m", *here)
    assert held["data"] == {"x": "2", "w": "3", "z": "2"}
    assert "labels" not in held["metadata"] or held["metadata"]["labels"] == {}


def test_lists_are_applied_by_their_keys(api: Api, namespace: str) -> None:
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    port = "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{}]}}\n"
    web, dns = "{name: web, port: 80}", "{name: dns, port: 53, protocol: UDP}"
    api.out(*apply, "--field-manager=one", stdin=port.format(web))
    api.out(*apply, "--field-manager=two", stdin=port.format(dns))

    def ports() -> list[str]:
        return [each["name"] for each in api.json("get", "service", "s", "-n", namespace)["spec"]["ports"]]

    assert ports() == ["web", "dns"]
    api.out(*apply, "--field-manager=one", stdin=port.format(dns))
    assert ports() == ["dns"]


def test_what_kubectl_applied_before_may_be_applied_by_the_server(api: Api, namespace: str) -> None:
    here = ("-n", namespace, "-f", "-")
    api.out("apply", *here, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 3", "replicas: 4")
    api.out("apply", "--server-side", *here, stdin=changed)
    api.out("scale", "deployment", "web", "--replicas=6", "-n", namespace)
    told = api.refused("apply", "--server-side", *here, stdin=changed)
    assert ".spec.replicas" in told
    assert 'conflict with "kubectl"' in told


@pytest.mark.feature("C2")
def test_an_eviction_is_a_deletion_with_grace(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "-f", "-", *here, stdin=pod("victim", node="node01"))
    path = f"/api/v1/namespaces/{namespace}/pods/victim/eviction"
    eviction = manifest("Eviction", "victim", "policy/v1", deleteOptions={"gracePeriodSeconds": 5})
    assert '"Success"' in api.out("create", "--raw", path, "-f", "-", stdin=eviction)
    assert api.json("get", "pod", "victim", *here)["metadata"]["deletionGracePeriodSeconds"] == 5
    missing = path.replace("victim", "nobody")
    assert "not found" in api.refused("create", "--raw", missing, "-f", "-", stdin=eviction)


@pytest.mark.feature("C3")
def test_ingresses_classes_and_the_service_range(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "ingress", "web", "--class=nginx", "--rule=a.example/*=web:80", *here)
    line = api.out("get", "ingress", *here).splitlines()[1].split()
    assert line[:4] == ["web", "nginx", "a.example", "80"]
    api.out(
        "create",
        "-f",
        "-",
        stdin=manifest("IngressClass", "nginx", "networking.k8s.io/v1", spec={"controller": "x/y"}),
    )
    assert "x/y" in api.out("get", "ingressclasses")
    assert "10.96.0.0/12" in api.out("get", "servicecidrs")
    wrong = manifest("Ingress", "w", "networking.k8s.io/v1", spec={"rules": [{"http": {"paths": [{}]}}]})
    assert "pathType must be specified" in api.refused("create", *here, "-f", "-", stdin=wrong)


def test_metrics_have_the_names_of_kube_apiserver(api: Api) -> None:
    api.out("get", "services", "-A")
    text = api.out("get", "--raw", "/metrics")
    listed = 'verb="LIST",group="",version="v1",resource="services",subresource="",scope="cluster"'
    assert f'apiserver_request_total{{{listed},code="200"}}' in text
    assert f'apiserver_request_duration_seconds_bucket{{{listed},le="+Inf"}}' in text
    assert 'apiserver_storage_objects{resource="namespaces"} ' in text
    assert "cannot get path" in as_user(api, "proxy", "get", "--raw", "/metrics")
