"""`kubectl exec`, `cp` and `port-forward` into Pods of a real cluster."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes
import live
import pytest
import yaml

from testbed.lab.cluster import Cluster

SECONDS = 60

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  containers:
  - name: first
    image: busybox
    command: [sleep, "77777"]
    workingDir: /srv
    env: [{name: COLOR, value: blue}]
  - {name: second, image: busybox, command: [sleep, "88888"]}
---
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  containers:
  - {name: c, image: busybox, command: [sh, -c, "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec: {containers: [{name: c, image: testbed/echo, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with live.running("streams", tmp_path_factory.mktemp("streams"), "--nodes", "1") as cluster:
        assert kubectl(cluster, "apply", "-f", "-", stdin=PODS.encode()).returncode == 0
        ready = ("wait", "--for=condition=Ready", "pod/box", "pod/counter", "pod/echo", "--timeout=60s")
        assert kubectl(cluster, *ready).returncode == 0
        yield cluster


def argv(cluster: Cluster, *words: str) -> list[str]:
    return ["kubectl", f"--kubeconfig={cluster.kubeconfig}", *words]


def kubectl(cluster: Cluster, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        argv(cluster, *words), input=stdin, capture_output=True, timeout=SECONDS, check=False
    )


def inside(cluster: Cluster, script: str, *flags: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    done = kubectl(cluster, "exec", "box", "-c", "first", *flags, "--", "sh", "-c", script, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.feature("C1", "C3")
def test_output_errors_and_code_come_back_apart(cluster: Cluster) -> None:
    told = "command terminated with exit code 3\n"
    expected = (3, b"out\n", b"err\n" + told.encode())
    assert inside(cluster, "echo out; echo err >&2; exit 3") == expected
    assert inside(cluster, "kill -9 $$")[0] == 137


@pytest.mark.feature("C1", "C3")
def test_the_python_client_runs_commands_in_the_older_protocol(cluster: Cluster) -> None:
    """It speaks v4.channel.k8s.io."""
    with kubernetes.config.new_client_from_config(str(cluster.kubeconfig)) as client:
        exec_ = kubernetes.client.CoreV1Api(client).connect_get_namespaced_pod_exec
        script = ["sh", "-c", "read line; echo $line; echo err >&2; exit 5"]
        asked = {"container": "first", "command": script, "stdin": True, "stdout": True, "stderr": True}
        socket = kubernetes.stream.stream(exec_, "box", "default", tty=False, _preload_content=False, **asked)
        socket.write_stdin("typed\n")
        socket.run_forever(timeout=SECONDS)
        told = (socket.read_stdout(timeout=1), socket.read_stderr(timeout=1), socket.returncode)
        socket.sock.shutdown()  # close() leaves its connection when the server has closed before
    assert told == ("typed\n", "err\n", 5)


def test_a_command_is_inside_its_container(cluster: Cluster) -> None:
    code, out, _ = inside(
        cluster,
        "hostname; pwd; echo $COLOR; tr '\\0' ' ' </proc/1/cmdline; echo; hostname -i",
    )
    ip = json.loads(kubectl(cluster, "get", "pod", "box", "-o", "json").stdout)["status"]["podIP"]
    assert (code, out.decode().split("\n")) == (
        0,
        ["box", "/srv", "blue", "sleep 77777 ", ip, ""],
    )
    other = kubectl(cluster, "exec", "box", "-c", "second", "--", "cat", "/proc/1/cmdline")
    assert other.stdout == b"sleep\x0088888\x00"


def test_what_is_typed_in_arrives_to_its_end(cluster: Cluster) -> None:
    typed = os.urandom(3_000_000)
    assert inside(cluster, "cat", "-i", stdin=typed) == (0, typed, b"")
    assert inside(cluster, "head -c 5", "-i", stdin=typed)[:2] == (0, typed[:5])


def test_a_terminal_is_one(cluster: Cluster) -> None:
    ours, theirs = pty.openpty()
    words = argv(cluster, "exec", "-it", "box", "-c", "first", "--", "sh")
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen = b""

    def until(text: bytes, again: bytes = b"") -> None:
        """Typing `again` once a second, if it is given."""
        nonlocal seen
        deadline = time.monotonic() + SECONDS
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 4096)
            else:
                os.write(ours, again)

    until(b"# ")
    os.write(ours, b"tty; echo $TERM $((6*7)); sleep 55555\n")
    until(b"xterm 42")
    assert b"/dev/pts/" in seen
    seen = b""
    os.write(ours, b"\x03")
    until(b"# ", again=b"\x03")  # busybox's shell loses one that comes before it has begun the program
    os.write(ours, b"exit 7\n")
    assert process.wait(SECONDS) == 7
    os.close(ours)


def test_a_client_that_goes_away_ends_its_command(cluster: Cluster) -> None:
    process = subprocess.Popen(
        argv(cluster, "exec", "box", "-c", "first", "--", "sh", "-c", "echo up; exec sleep 66666"),
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait(SECONDS)
    process.stdout.close()
    waiting = "for i in $(seq 500); do pgrep -f 'sleep 6666[6]' || exit 0; sleep 0.02; done; exit 1"
    assert inside(cluster, waiting)[0] == 0


@pytest.mark.feature("C1", "C3")
def test_a_log_is_followed_as_it_is_written(cluster: Cluster) -> None:
    last = kubectl(cluster, "logs", "counter", "--tail=1").stdout.decode()
    with subprocess.Popen(
        argv(cluster, "logs", "-f", "counter", "--tail=1"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        followed = [int(process.stdout.readline().removeprefix("line ")) for _ in range(10)]
        process.kill()
    assert followed == list(range(followed[0], followed[0] + 10))
    assert followed[0] >= int(last.removeprefix("line "))


@pytest.mark.feature("C1", "C3")
def test_files_are_copied_in_and_out(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("small", 10), ("large", 5_000_000)):
        (tmp_path / "in" / name).write_bytes(os.urandom(size))
    assert kubectl(cluster, "cp", "-c", "first", str(tmp_path / "in"), "box:/srv/copied").returncode == 0
    assert kubectl(cluster, "cp", "-c", "first", "box:/srv/copied", str(tmp_path / "out")).returncode == 0
    for name in ("small", "large"):
        assert (tmp_path / "in" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    inside(cluster, "rm -r /srv/copied")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("box", "-c", "first", "--", "no-such-program"), "no-such-program: No such file or directory"),
        (("box", "-c", "third", "--", "true"), "container third is not valid for pod box"),
        (("nobody", "--", "true"), 'pods "nobody" not found'),
    ],
)
def test_what_cannot_be_run_is_told(cluster: Cluster, words: tuple[str, ...], told: str) -> None:
    done = kubectl(cluster, "exec", *words)
    assert done.returncode == 1
    assert told in done.stderr.decode()


@contextmanager
def forwarded(cluster: Cluster, port: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A port of the echo Pod on the loopback address: its URL."""
    words = argv(cluster, "port-forward", "pod/echo", f":{port}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        try:
            yield f"http://{found[0]}/", process
        finally:
            process.kill()


@pytest.mark.feature("C1", "C3")
def test_connections_are_forwarded_side_by_side(cluster: Cluster) -> None:
    with forwarded(cluster, 8080) as (url, _):
        answers = [urllib.request.urlopen(url, timeout=SECONDS) for _ in range(8)]
        for answer in answers:
            with answer:
                assert json.load(answer)["pod"] == "echo"


def test_a_port_where_nobody_listens_is_told(cluster: Cluster) -> None:
    with forwarded(cluster, 9999) as (url, process):
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(url, timeout=SECONDS)
        assert process.stderr
        assert "connect to 127.0.0.1:9999: Connection refused" in process.stderr.readline()


def test_nobody_else_may_use_the_kubelets_port(cluster: Cluster, tmp_path: Path) -> None:
    state = cluster.kubeconfig.parent
    user = yaml.safe_load((state / "kube-proxy.kubeconfig").read_text())["users"][0]["user"]
    for part in ("certificate", "key"):
        (tmp_path / part).write_bytes(base64.b64decode(user[f"client-{part}-data"]))
    url = f"https://{cluster.machine('node01').address}:10250/exec/default/box/first?command=true"
    pairs = (
        (tmp_path / "certificate", tmp_path / "key", "403"),
        (state / "pki/apiserver-kubelet-client.crt", state / "pki/apiserver-kubelet-client.key", "400"),
    )
    for certificate, key, code in pairs:
        words = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--cert", certificate, "--key", key]
        done = cluster.machine("client").run([*map(str, words), url], capture_output=True, check=False)
        assert done.stdout.strip() == code, done.stderr


def test_run_attaches_to_the_input_of_a_program_and_shows_what_it_prints(cluster: Cluster) -> None:
    script = "read line; echo it said $line; nslookup kubernetes.default.svc.cluster.local"
    words = ["run", "asked", "-i", "--rm", "--image=busybox", "--restart=Never", "--", "sh", "-c", script]
    argv = ["kubectl", f"--kubeconfig={cluster.kubeconfig}", *words]
    done = subprocess.run(argv, input="hello\n", capture_output=True, text=True, timeout=60, check=False)
    assert "it said hello" in done.stdout, done.stderr
    assert "10.96.0.1" in done.stdout


def test_run_attaches_to_a_terminal(cluster: Cluster) -> None:
    ours, theirs = os.openpty()
    words = ["run", "shell", "-it", "--rm", "--image=busybox", "--restart=Never", "--", "sh"]
    argv = ["kubectl", f"--kubeconfig={cluster.kubeconfig}", *words]
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen, typed = b"", False
    with contextlib.suppress(OSError):  # EIO: kubectl has ended
        while select.select([ours], [], [], 60)[0]:
            seen += os.read(ours, 4096)
            if b"try pressing enter" in seen and not typed:
                typed = bool(os.write(ours, b"tty; echo $((6*7)) lives; exit\n"))
    os.close(ours)
    assert process.wait(30) == 0, seen
    assert b"/dev/pts/" in seen
    assert b"42 lives" in seen
