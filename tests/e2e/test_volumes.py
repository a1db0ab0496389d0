"""Volumes and references on a real cluster: what a Pod mounts it sees, and what it misses it waits for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import live
import pytest
from live import Kubectl, until

EXAMPLES = Path(__file__).parents[2] / "examples"

REQUEST = "openssl req -x509 -nodes -days 365 -newkey rsa:2048 -keyout nginx.key -out nginx.crt -subj"
SUBJECT = "/CN=my-nginx/O=my-nginx"

EVERY_KIND = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue, greeting: "hello"}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {password: "sesame"}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  restartPolicy: Never
  volumes:
    - {name: settings, configMap: {name: settings}}
    - {name: token, secret: {secretName: token, defaultMode: 0400}}
    - {name: scratch, emptyDir: {}}
    - name: all
      projected:
        sources:
          - {secret: {name: token}}
          - {configMap: {name: settings, items: [{key: color, path: deep/color}]}}
          - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    - {name: node, hostPath: {path: /etc/hostname, type: File}}
  containers:
    - name: writer
      image: busybox
      command: [sh, -c, "echo from-the-writer > /mnt/scratch/file; sleep 1000"]
      volumeMounts: [{name: scratch, mountPath: /mnt/scratch}, {name: settings, mountPath: /mnt/settings}]
    - name: reader
      image: busybox
      command: [sh, -c]
      args:
        - |
          until [ -f /mnt/other/file ]; do sleep 0.1; done
          cd /mnt; cat settings/color token/password other/file all/deep/color all/labels; echo
          stat -L -c %a /mnt/token/password; cat /mnt/one /mnt/node; echo
          echo "$COLOR $PASSWORD $ON"; touch /mnt/settings/new || echo read-only
      env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: token, key: password}}}
        - {name: "ON", valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      envFrom: [{configMapRef: {name: upper}}]
      volumeMounts:
        - {name: settings, mountPath: /mnt/settings}
        - {name: settings, mountPath: /mnt/one, subPath: greeting}
        - {name: token, mountPath: /mnt/token}
        - {name: scratch, mountPath: /mnt/other}
        - {name: all, mountPath: /mnt/all}
        - {name: node, mountPath: /mnt/node}
"""
UPPER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: upper}\ndata: {COLOR: green}\n"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with live.running("volumes", tmp_path_factory.mktemp("volumes")) as cluster:
        yield Kubectl(cluster)


@pytest.mark.feature("A24")
def test_https_through_the_node_port_shows_the_certificate_of_the_secret(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    subprocess.run([*REQUEST.split(), SUBJECT], check=True, capture_output=True, cwd=tmp_path, timeout=60)
    kubectl("apply", "-f", str(EXAMPLES / "nginx-tls.yaml"))
    told = 'MountVolume.SetUp failed for volume "secret-volume" : secret "nginxsecret" not found'
    until(lambda: told in kubectl("describe", "pods", "-l", "run=my-nginx"), "no event for the lost Secret")
    assert "ContainerCreating" in kubectl("get", "pods", "-l", "run=my-nginx")
    files = [f"--from-file={tmp_path}/{name}" for name in ("nginx.crt", "nginx.key")]
    kubectl("create", "secret", "generic", "nginxsecret", *files)
    kubectl("rollout", "status", "deployment/my-nginx", "--timeout=60s")
    service = json.loads(kubectl("get", "service", "my-nginx", "-o", "json"))
    ports = {port["name"]: port["nodePort"] for port in service["spec"]["ports"]}
    trusted = ["--cacert", str(tmp_path / "nginx.crt")]
    for mode in ("iptables", "userspace", "nftables"):
        if mode != "iptables":
            kubectl.cluster.set_proxy(mode)
        for node in ("node01", "node02"):
            address = str(kubectl.cluster.machine(node).address)
            there = ["--connect-to", f"my-nginx:443:{address}:{ports['https']}", "https://my-nginx/"]
            until(lambda: welcomes(kubectl, *trusted, *there), f"{mode}: no HTTPS on {node}")  # noqa: B023
            plain = f"http://{address}:{ports['http']}/"
            until(lambda: welcomes(kubectl, plain), f"{mode}: no HTTP on {node}")  # noqa: B023
    kubectl.cluster.set_proxy("iptables")


def welcomes(kubectl: Kubectl, *words: str) -> bool:
    """Whether nginx answers the client's curl."""
    argv = ["curl", "-sSf", "-m", "5", *words]
    return "Welcome to nginx!" in kubectl.cluster.machine("client").run(argv, check=False).stdout


def test_every_kind_of_volume_and_reference_is_seen_by_the_container(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=EVERY_KIND)
    until(lambda: "CreateContainerConfigError" in kubectl("get", "pod", "reader"), "no config error")
    assert 'configmap "upper" not found' in kubectl("describe", "pod", "reader")
    kubectl("apply", "-f", "-", manifest=UPPER)
    until(lambda: '"terminated"' in kubectl("get", "pod", "reader", "-o", "json"), "the reader did not run")
    node = json.loads(kubectl("get", "pod", "reader", "-o", "json"))["spec"]["nodeName"]
    lines = kubectl("logs", "reader", "-c", "reader").splitlines()
    assert lines[:2] == ["bluesesamefrom-the-writer", 'blueapp="reader"']
    assert lines[2:5] == ["400", f"hello{node}", ""]
    assert lines[5] == f"green sesame {node}"
    change = '{"data": {"color": "red"}}'
    kubectl("patch", "configmap", "settings", "--type=merge", "-p", change)
    watched = ["exec", "reader", "-c", "writer", "--", "cat", "/mnt/settings/color"]
    until(lambda: kubectl(*watched) == "red", "the file does not follow its ConfigMap")
    kubectl("delete", "pod", "reader", "--grace-period=1")
