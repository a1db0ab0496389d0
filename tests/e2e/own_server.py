"""An API server of a test's own, on the loopback address, and the unmodified kubectl pointed at it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.client import pki

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

    def popen(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            **environment,
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

    def kubectl(
        self, *words: str, stdin: str = "", check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.popen(*words, **environment)
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


def prepared(directory: Path) -> Api:
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
