"""Services forked from one process that has the components loaded (`testbed warm`, testbed/node/unit.py)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.packets.patience import patience, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Up, as it has told its service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(patience(20))
        words = [sys.executable, "-m", "testbed.cli.main", "warm", f"--socket={tmp_path}/warm"]
        process = subprocess.Popen(words, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        try:
            assert manager.recv(100) == b"READY=1"
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def service(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen]:
    code = "import sys; from testbed.node.unit import main; sys.exit(main(sys.argv[2:], sys.argv[1]))"
    command = [sys.executable, "-S", "-c", code, str(tmp_path / "warm"), *words]
    with started(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as one:
        yield one


@contextlib.contextmanager
def started(command: list[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def child(process: subprocess.Popen, listening: Path) -> int:
    """The pid of the service that the loaded process has forked, once it listens: 0 before."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(listed[0]) if listed and listening.exists() else 0


@pytest.mark.feature("D2")
def test_a_service_has_its_own_environment_output_and_group(warm: subprocess.Popen, tmp_path: Path) -> None:
    with service(tmp_path, "warm", f"--socket={tmp_path}/second") as one:
        pid = until(lambda: child(warm, tmp_path / "second"), 5)
        assert pid
        try:
            read = Path(f"/proc/{pid}")
            assert (read / "cgroup").read_text() == Path(f"/proc/{one.pid}/cgroup").read_text()
            assert [os.readlink(read / f"fd/{n}") for n in (1, 2)] == [
                os.readlink(f"/proc/{one.pid}/fd/{n}") for n in (1, 2)
            ]
        finally:
            os.kill(one.pid, signal.SIGTERM)  # as to the whole group: it is the service whose end counts
            assert one.poll() is None
            os.kill(pid, signal.SIGTERM)
        assert one.wait(patience(5)) == 128 + signal.SIGTERM


def test_what_is_wrong_with_its_words_is_told_where_its_output_goes(
    warm: subprocess.Popen, tmp_path: Path
) -> None:
    with service(tmp_path, "kubelet") as one:
        out, err = one.communicate(timeout=patience(10))
    assert one.returncode == 2
    assert out == ""
    assert "--kubeconfig" in err


def test_it_starts_in_a_fraction_of_the_time(warm: subprocess.Popen, tmp_path: Path) -> None:
    def took(begin: Callable[[], contextlib.AbstractContextManager[subprocess.Popen]]) -> float:
        begun = time.perf_counter()
        with begin() as one:
            one.communicate(timeout=patience(20))
        assert one.returncode == 2
        return time.perf_counter() - begun

    loading = "from testbed.lab import components; components.load(); raise SystemExit(2)"
    loaded = min(took(lambda: started([sys.executable, "-c", loading])) for _ in range(3))
    forked = min(took(lambda: service(tmp_path, "kubelet")) for _ in range(3))
    assert forked < loaded / 3


def test_it_ends_with_the_process_that_it_was_forked_from(warm: subprocess.Popen, tmp_path: Path) -> None:
    with service(tmp_path, "warm", f"--socket={tmp_path}/second") as one:
        pid = until(lambda: child(warm, tmp_path / "second"), 5)
        assert pid
        warm.kill()
        try:
            assert one.wait(patience(5)) == 1
            assert one.stderr
            assert one.stderr.readline() == "warm: testbed-warm has ended\n"
        finally:
            os.kill(pid, signal.SIGKILL)
