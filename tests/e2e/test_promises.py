"""The times that are promised of a cluster. A busy machine may miss one; the best of a few tries must not."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.kernel.netns import Worker
from testbed.lab.cluster import Cluster

TESTBED = [sys.executable, "-m", "testbed.cli.main"]
NAME = "promises"
TRIES = 4

UP, DOWN, ANSWER = 5.0, 2.0, 1.0
"""Seconds: two nodes Ready; nothing left; from kubectl's return to the first answer on the ClusterIP."""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: echo-{number}}}
spec:
  selector: {{app: echo}}
  clusterIP: 10.96.100.{number}
  ports: [{{port: 80, targetPort: 8080}}]
"""
BACKEND = """
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers: [{name: echo, image: testbed/echo, ports: [{containerPort: 8080}]}]
"""


def cli(*words: str, manifest: str = "") -> float:
    """Run a verb; the seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [*TESTBED, *words], input=manifest, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def best(seconds: Callable[[int], float], promised: float) -> float:
    """The best of TRIES, or the first that keeps the promise."""
    tried = []
    for number in range(1, TRIES + 1):
        tried.append(seconds(number))
        if tried[-1] <= promised:
            break
    return min(tried)


def first_answer(address: str) -> float:
    """Seconds until the Service answers, asked again and again from where this runs."""
    import socket

    began = time.monotonic()
    while True:
        try:
            with socket.create_connection((address, 80), timeout=0.2) as connection:
                connection.sendall(b"hello\n")
                if connection.recv(1000):
                    return time.monotonic() - began
        except OSError:
            assert time.monotonic() < began + 60, "no answer"


def test_up_and_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_STATE_DIR", str(tmp_path / "state"))
    downs = []

    def up(_: int) -> float:
        took = cli("up", "--name", NAME, "--nodes", "2")
        downs.append(cli("down", "--name", NAME))
        return took

    assert best(up, UP) <= UP
    assert min(downs) <= DOWN


@pytest.mark.parametrize("mode", ["iptables", "userspace"])
def test_a_new_service_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("TESTBED_STATE_DIR", str(tmp_path / "state"))
    cli("up", "--name", NAME, "--nodes", "1", "--proxy-mode", mode)
    try:
        kubectl = ("kubectl", "--name", NAME, "--")
        cli(*kubectl, "apply", "-f", "-", manifest=BACKEND)
        cli(*kubectl, "wait", "--for=condition=Ready", "pod/echo", "--timeout=60s")
        with Worker(Cluster.open(NAME).machine("node01").netns) as node:

            def answer(number: int) -> float:
                cli(*kubectl, "apply", "-f", "-", manifest=SERVICE.format(number=number))
                return node.call(first_answer, f"10.96.100.{number}")

            assert best(answer, ANSWER) <= ANSWER
    finally:
        cli("down", "--name", NAME)
