"""docs/tutorial.md, typed line by line in every proxy mode."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walk import Step, Words, steps

from testbed.packets.patience import patience

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
MODES = ("iptables", "nftables", "userspace")
END = "the-end-of-the-command"
PATIENCE, LONGEST = 30.0, 30.0
"""Seconds to look again for what is not there yet, and that one command may take."""

LOOKS = ("kubectl get", "kubectl logs", "kubectl exec", "curl", "cat /", "ip", "iptables", "nft", "ps ")
"""Commands that change nothing: a reader repeats them until they show what they should."""


class Shell:
    """A shell, to type in and read from."""

    def __init__(self, argv: list[str], directory: Path) -> None:
        pipe, one = subprocess.PIPE, subprocess.STDOUT
        self._process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=one, text=True, cwd=directory, start_new_session=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)

    def type(self, command: str) -> str:
        """What the command prints, errors too."""
        assert self._process.stdin
        self._process.stdin.write(f"{command}\necho; echo {END}\n")
        self._process.stdin.flush()
        printed, deadline = "", time.monotonic() + patience(LONGEST)
        while not printed.endswith(f"\n{END}\n"):
            try:
                printed += self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{command}: no end; so far {printed}") from None
        return printed.removesuffix(f"\n{END}\n")

    def close(self) -> None:
        """End the shell and what it runs, which may hold its pipes open."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reading.join()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


class Reader:
    """Types the steps, each in its place."""

    def __init__(self) -> None:
        self._shells: dict[str, Shell] = {}
        self._words = Words()

    def do(self, step: Step) -> None:
        command = self._words.typed(step.command)
        deadline = time.monotonic() + PATIENCE
        while not self._words.agree(step.printed, seen := self._shell(step.machine).type(command)):
            again = command.startswith(LOOKS) and time.monotonic() < deadline
            where, expected = f"docs/tutorial.md:{step.line}", "\n".join(step.printed)
            assert again, f"{where}: {command}\n{seen}\ninstead of\n{expected}"
            time.sleep(0.1)

    def _shell(self, machine: str) -> Shell:
        if machine not in self._shells:
            argv = ["testbed", "exec", machine] if machine else ["bash"]
            self._shells[machine] = Shell(argv, ROOT / "examples")
        return self._shells[machine]

    def close(self) -> None:
        for shell in self._shells.values():
            shell.close()


COMMANDS = (
    "kubectl create -f clusterIP.yaml",
    "kubectl create -f nodeportIP.yaml",
    "kubectl get pods -o wide",
    "kubectl get service",
    "kubectl get nodes -o wide",
    "kubectl get pods -l run=mynginx -o yaml | grep podIP",
    "kubectl get svc mynginx",
    "kubectl get endpoints",
    "kubectl expose deployment mynginx",
    "kubectl apply -f mynginx.yaml",
    "kubectl apply -f /tmp/nginxsecrets.yaml",
    "kubectl logs -n kube-system kube-proxy-",
    "iptables -L -t nat | grep local-cluster",
    "iptables -L -t nat | grep db-service",
    "cat /var/log/kube-proxy.log",
    "cat /etc/kubernetes/manifests/kube-controller-manager.yaml | grep cluster-cidr",
    "cat /etc/kubernetes/manifests/kube-apiserver.yaml | grep cluster-ip-range",
    "ps aux | grep kube-apiserver",
    "ip addr",
    "openssl req -x509 -nodes -days 365 -newkey rsa:2048",
)
"""What people type who learn about Services."""


@pytest.mark.feature("A23")
def test_nothing_that_one_types_is_left_out() -> None:
    typed = [step.command for step in steps(TEXT, "iptables")]
    assert [each for each in COMMANDS if not any(command.startswith(each) for command in typed)] == []


def test_words_that_vary_stand_for_one_word_throughout() -> None:
    words = Words()
    printed = ["a   ClusterIP   10.101.67.139   80:30016/TCP   3m", "…", "kube-proxy-l2jcb …"]
    assert words.agree(
        printed, "a ClusterIP 10.96.3.4  80:31000/TCP 4s\nmore\nmore\nkube-proxy-zzzzz Running\n"
    )
    assert words.typed("curl 10.101.67.139:30016") == "curl 10.96.3.4:31000"
    assert words.typed("kubectl logs kube-proxy-l2jcb") == "kubectl logs kube-proxy-zzzzz"
    assert words.agree(["to 10.101.67.139"], "to 10.96.3.4")
    assert not words.agree(["to 10.101.67.139"], "to 10.96.3.5")
    assert not words.agree(["to 10.101.67.140"], "to 10.96.3.4"), "another word, the same meaning"
    assert not words.agree(["to 10.244.1.2"], "to 10.96.3.9"), "another shape"
    assert not words.agree(["one line"], "one line\nand another")
    assert not words.agree([], "something")
    assert words.agree([], "")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setenv("TESTBED_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "1000")  # readline sets 80 behind our back, and ps cuts its lines
    reader = Reader()
    try:
        yield reader
    finally:
        subprocess.run(["testbed", "down", "--all"], check=True, capture_output=True, timeout=patience(60))
        reader.close()


def walk(reader: Reader, mode: str) -> None:
    for step in steps(TEXT, mode):
        began = time.monotonic()
        print(f"{step.machine}$ {step.command.splitlines()[0]}", end="", flush=True)  # one may never end
        reader.do(step)
        print(f"  ({time.monotonic() - began:.1f} s)")


@pytest.mark.feature(
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "A13", "A14", "A16", "A18"
)
@pytest.mark.feature("A19", "A20", "A21", "A22", "A23", "A24", "D9")
@pytest.mark.parametrize("mode", MODES)
def test_every_line_prints_what_the_tutorial_says(reader: Reader, mode: str) -> None:
    walk(reader, mode)


@pytest.mark.feature("A17", "A24", "D9")
@pytest.mark.needs("ip_vs")
def test_every_line_prints_what_the_tutorial_says_in_ipvs_mode(reader: Reader) -> None:
    walk(reader, "ipvs")
