"""A Python in a Pod, reached through the API: calls, what comes back, and how each way to end is told."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live import Kubectl, running

from testbed.bench.prober import ProbeError, open_connection
from testbed.errors import TestbedError
from testbed.lab.distant import Distant

CALLS = (sys.executable, "-m", "testbed.cli.main", "fleet", "calls")
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with running("distant", tmp_path_factory.mktemp("distant"), "--nodes", "1") as cluster:
        yield Kubectl(cluster)


def made(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """A Pod that runs."""
    kubectl("run", name, "--image=testbed/echo")
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    return dict(json.loads(kubectl("get", "pod", name, "-o", "json")))


@pytest.fixture(scope="module")
def pod(kubectl: Kubectl) -> dict[str, Any]:
    return made(kubectl, "worker")


@pytest.fixture(scope="module")
def place(kubectl: Kubectl, pod: dict[str, Any]) -> Iterator[Distant]:
    with Distant(kubectl.cluster.kubeconfig, pod, CALLS) as place:
        yield place


def test_a_call_runs_in_the_pod(place: Distant, pod: dict[str, Any]) -> None:
    assert place.call(socket.gethostname) == "worker"
    seen = place.call(socket.getaddrinfo, "worker", 80, socket.AF_INET, socket.SOCK_STREAM)
    assert [address for *_, (address, _) in seen] == [pod["status"]["podIP"]]


def test_calls_run_in_order_and_are_fetched_in_any(place: Distant) -> None:
    first, second = place.start(time.monotonic), place.start(time.monotonic)
    later = second.result()
    assert first.result() < later


def test_an_exception_comes_back_and_the_next_call_works(place: Distant) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        place.call(os.listdir, "/nowhere")
    with pytest.raises(ConnectionRefusedError) as refused:  # a call's own, not the stream's
        place.call(socket.create_connection, ("127.0.0.1", 9))
    assert "in the worker" in refused.value.__notes__[0]
    with pytest.raises(ProbeError, match=r"127\.0\.0\.1:9: Connection refused"):
        place.call(open_connection, ("127.0.0.1", 9), 1)
    assert place.call(int, "7") == 7


def test_what_cannot_travel_is_told(place: Distant) -> None:
    with pytest.raises(TypeError, match="answer cannot be sent"):
        place.call(memoryview, b"x")
    assert place.call(int, "7") == 7


def test_megabytes_travel_both_ways(place: Distant) -> None:
    sent = os.urandom(5 * MEGABYTE)
    assert place.call(bytes, sent) == sent


def test_a_call_that_takes_too_long_is_told(kubectl: Kubectl, pod: dict[str, Any], place: Distant) -> None:
    with pytest.raises(TimeoutError):
        place.start(time.sleep, 1.0).result(timeout=0.1)
    with (
        Distant(kubectl.cluster.kubeconfig, pod, CALLS, patience=1.0) as hasty,
        pytest.raises(TestbedError, match=r"Pod worker has not answered for 1 s; is its machine up\?"),
    ):
        hasty.call(time.sleep, 30.0)


def test_a_pod_that_is_not_there_is_told_in_kubectl_s_words(kubectl: Kubectl, pod: dict[str, Any]) -> None:
    nobody = {"metadata": {**pod["metadata"], "name": "nobody"}}
    with Distant(kubectl.cluster.kubeconfig, nobody, CALLS) as place:
        for _ in range(2):  # at the first call kubectl may still be about to find out
            with pytest.raises(TestbedError, match=r'Pod nobody takes no more calls: .*"nobody" not found'):
                place.call(os.getpid)


def test_a_pod_that_is_deleted_in_mid_call_is_told(kubectl: Kubectl) -> None:
    doomed = made(kubectl, "doomed")
    with Distant(kubectl.cluster.kubeconfig, doomed, CALLS) as place:
        assert place.call(int, "7") == 7
        under_way = place.start(time.sleep, 120.0)
        kubectl("delete", "pod", "doomed", "--now", "--wait=false")
        began = time.monotonic()
        with pytest.raises(TestbedError, match=r"Pod doomed takes no more calls: "):
            under_way.result(timeout=60.0)
        assert time.monotonic() - began < 60.0
        with pytest.raises(TestbedError, match=r"Pod doomed takes no more calls: "):
            place.call(os.getpid)


def test_the_program_in_the_pod_ends_with_its_caller(kubectl: Kubectl, pod: dict[str, Any]) -> None:
    with Distant(kubectl.cluster.kubeconfig, pod, CALLS) as short:
        pid = short.call(os.getpid)
    with Distant(kubectl.cluster.kubeconfig, pod, CALLS) as other:
        deadline = time.monotonic() + 30.0
        while other.call(os.path.exists, f"/proc/{pid}"):
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.05)
