"""The API server's promises: durable creates, lists, watches, memory, restart.

pytest benchmarks/api

A promise of a rate is held against the server's own CPU seconds, too: on a busy machine the wall clock
tells more of the machine than of the server, and only the first is asserted then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_server import Api, prepared

COUNT = 5000
FLIGHT = 32
WATCHERS, RATE, SECONDS = 100, 500, 6
LOAD = Path(__file__).with_name("load.py")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Server:
    """A server, how much CPU it used, and the load put on it."""

    def __init__(self, api: Api) -> None:
        self.api = api

    @property
    def cpu(self) -> float:
        """Seconds of CPU it used so far."""
        fields = Path(f"/proc/{self.api.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss(self) -> float:
        """MiB it holds."""
        lines = Path(f"/proc/{self.api.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def load(self, *words: object) -> dict:
        argv = [sys.executable, str(LOAD), str(self.api.directory / "admin.kubeconfig"), *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    api = prepared(tmp_path_factory.mktemp("api"))
    api.start()
    yield Server(api)
    assert api.stop() == 0


def test_durable_creates(server: Server, recorded, promise, benchmark) -> None:
    """5,000 Services and 5,000 EndpointSlices of five endpoints, 32 in flight; an answer means: on disk."""
    before = server.cpu
    seen = server.load("create", 0, COUNT, FLIGHT)
    used = server.cpu - before
    benchmark.extra_info["server_cpu_seconds"] = used
    benchmark.extra_info["client_cpu_seconds"] = seen["client_cpu"]
    assert len(seen["latencies"]) == 2 * COUNT
    recorded(seen["latencies"])
    promise("creates by the server's CPU", 2 * COUNT / used, 2000, "objects/s")
    promise("creates by the wall clock", 2 * COUNT / seen["seconds"], 2000, "objects/s", wall=True)
    promise("p99 of a create", percentile(seen["latencies"], 0.99) / 1000, 50, "ms", wall=True)


def test_list_of_ten_thousand_services(server: Server, recorded, promise) -> None:
    server.load("create", COUNT, COUNT, FLIGHT)
    before = server.cpu
    seen = server.load("get", "/api/v1/services", 10)
    recorded(seen["latencies"])
    promise("list of 10,000 Services, server's CPU", (server.cpu - before) / 10, 0.4, "s")
    promise("list of 10,000 Services", percentile(seen["latencies"], 0.5) / 1e6, 0.4, "s", wall=True)


def test_memory_with_ten_thousand_services_and_slices(server: Server, recorded, promise) -> None:
    recorded([server.rss], unit="MiB")
    promise("RSS with 10,000 Services and 10,000 EndpointSlices", server.rss, 200, "MiB")


def test_a_hundred_watchers_of_five_hundred_changes_a_second(
    server: Server, recorded, promise, benchmark
) -> None:
    before = server.cpu
    seen = server.load("watch", WATCHERS, RATE, SECONDS)
    benchmark.extra_info["server_cpu_seconds"] = server.cpu - before
    assert seen["seen"] == RATE * SECONDS
    recorded(seen["ages"][:: max(1, len(seen["ages"]) // 10_000)])
    promise("server's CPU for it", (server.cpu - before) / SECONDS, 1, "s per second")
    pace = RATE * SECONDS / (SECONDS + seen["late"])
    promise("the writer's own pace", pace, 0.95 * RATE, "changes/s", wall=True)
    promise("median from write to delivery", percentile(seen["ages"], 0.5) / 1000, 100, "ms", wall=True)
    promise("p99 from write to delivery", percentile(seen["ages"], 0.99) / 1000, 100, "ms", wall=True)


def test_restart_with_that_state(server: Server, recorded, promise) -> None:
    server.api.stop(signal.SIGKILL)
    began = time.perf_counter()
    server.api.start()
    seconds = time.perf_counter() - began
    recorded([seconds], unit="s")
    promise("restart after kill -9, CPU", server.cpu, 2, "s")
    promise("restart after kill -9", seconds, 2, "s", wall=True)
    listed = json.loads(server.api.out("get", "--raw", "/api/v1/services?limit=1"))
    assert listed["metadata"]["remainingItemCount"] >= 2 * COUNT
