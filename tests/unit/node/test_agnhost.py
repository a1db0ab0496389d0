"""agnhost's contract with the network tests of Kubernetes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.node import agnhost

AGNHOST = [sys.executable, "-m", "testbed.cli.main", "agnhost"]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(port: int, *words: str) -> Iterator[None]:
    with subprocess.Popen([*AGNHOST, *words]) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
        yield
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    http, udp = free_port(), free_port(socket.SOCK_DGRAM)
    with running(http, "netexec", f"--http-port={http}", f"--udp-port={udp}"):
        yield http, udp


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_it_says_who_it_is_and_who_asks(ports: tuple[int, int]) -> None:
    http, _ = ports
    assert get(http, "/hostname") == get(http, "/hostName") == socket.gethostname()
    host, _, port = get(http, "/clientip").rpartition(":")
    assert (host, port.isdigit()) == ("127.0.0.1", True)
    assert get(http, "/echo?msg=hello") == "hello"
    assert get(http, "/header?key=Host") == f"127.0.0.1:{http}"


def test_the_same_over_udp(ports: tuple[int, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", ports[1]))
        me = f"127.0.0.1:{client.getsockname()[1]}"
        for question, answer in (("hostname", socket.gethostname()), ("echo a b", "a b"), ("clientip", me)):
            client.send(question.encode())
            assert client.recv(1000).decode() == answer


@pytest.mark.parametrize("protocol", ["http", "udp"])
def test_dial_asks_another_and_tells_what_it_said(ports: tuple[int, int], protocol: str) -> None:
    port = ports[protocol == "udp"]
    path = f"/dial?host=127.0.0.1&port={port}&protocol={protocol}&request=hostname&tries=3"
    assert json.loads(get(ports[0], path)) == {"responses": [socket.gethostname()] * 3}


def test_dial_tells_what_went_wrong(ports: tuple[int, int]) -> None:
    told = json.loads(get(ports[0], f"/dial?host=127.0.0.1&port={free_port()}&protocol=http"))
    assert told["responses"] == []
    assert len(told["errors"]) == 1


def test_connect_says_why_it_could_not(ports: tuple[int, int]) -> None:
    def connect(port: int) -> tuple[int, str]:
        words = [*AGNHOST, "connect", f"127.0.0.1:{port}", "--timeout=5s"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr.strip()

    assert connect(ports[0]) == (0, "")
    assert connect(free_port()) == (1, "REFUSED")


def test_a_web_server_has_the_files_of_its_machine(tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello")
    port = free_port()
    with running(port, "test-webserver", f"--port={port}"):
        assert get(port, f"{tmp_path}/greeting") == "hello"
        assert "greeting" in get(port, f"{tmp_path}/")


def test_liveness_is_well_at_first() -> None:
    port = free_port()
    with running(port, "liveness", f"--port={port}"):
        assert get(port, "/healthz") == "ok"
        assert float(get(port, "/started").removesuffix("s")) < agnhost.HEALTHY
