"""The server as a process: what a cluster begins with, how it ends and comes back, flags, metrics."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from own_server import DEADLINE, Api, manifest, prepared


def as_user(api: Api, user: str, *words: str, stdin: str = "") -> str:
    """What kubectl says, whether it is an answer or a refusal."""
    config = api.directory / f"{user}.kubeconfig"
    done = api.kubectl("--kubeconfig", str(config), *words, stdin=stdin, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


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


@pytest.mark.feature("C6")
def test_a_killed_server_comes_back_with_all_it_acknowledged(tmp_path: Path) -> None:
    api = prepared(tmp_path)
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
    api = prepared(tmp_path)
    argv = [sys.executable, "-m", "testbed.cli.main", "apiserver", *api.flags, *extra]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line


def test_a_port_that_is_taken_is_one_line_and_exit_2(tmp_path: Path) -> None:
    api = prepared(tmp_path)
    with socket.create_server(("127.0.0.1", api.port)):
        argv = [sys.executable, "-m", "testbed.cli.main", "apiserver", *api.flags]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_metrics_have_the_names_of_kube_apiserver(api: Api) -> None:
    api.out("get", "services", "-A")
    text = api.out("get", "--raw", "/metrics")
    listed = 'verb="LIST",group="",version="v1",resource="services",subresource="",scope="cluster"'
    assert f'apiserver_request_total{{{listed},code="200"}}' in text
    assert f'apiserver_request_duration_seconds_bucket{{{listed},le="+Inf"}}' in text
    assert 'apiserver_storage_objects{resource="namespaces"} ' in text
    assert "cannot get path" in as_user(api, "proxy", "get", "--raw", "/metrics")
