"""A cluster comes, works, and goes; the machine it ran on is as before, whatever was killed in between."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from testbed.cli.main import main
from testbed.kernel.netns import Worker

TESTBED = [sys.executable, "-m", "testbed.cli.main"]
TIMEOUT = 240

HOST = (
    "iptables-save",
    "ip6tables-save",
    "iptables-legacy-save",
    "nft list ruleset",
    "ip -o link",
    "ip -o addr",
    "ip route show table all",
    "ip netns",
    "sysctl -a",
    "mount",
)
"""What a cluster must not change, as the commands that show it."""

VOLATILE = (
    "fs.dentry-state",
    "fs.file-nr",
    "fs.inode-",
    "fs.aio-nr",
    "fs.quota",
    "kernel.ns_last_pid",
    "kernel.random.",
    "kernel.pty.nr",
    "kernel.perf_event_max_sample_rate",
    "net.netfilter.nf_conntrack_count",
    "debug.kprobes",
)
"""sysctls that the kernel itself changes all the time."""


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, so that a user's clusters are out of reach."""
    directory = tmp_path / "state"
    monkeypatch.setenv("TESTBED_STATE_DIR", str(directory))
    yield directory
    cli("down", "--all")


def cli(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*TESTBED, *words], capture_output=True, text=True, timeout=TIMEOUT)
    if check:
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def host() -> Mapping[str, str]:
    seen = {}
    for command in HOST:
        text = subprocess.run(command.split(), capture_output=True, text=True, check=False).stdout
        kept = [line for line in text.splitlines() if not line.startswith(("#", *VOLATILE))]
        seen[command] = "\n".join(kept)
    return seen


def living(name: str) -> list[str]:
    """Command lines of processes that run and name the cluster or were forked by its inits."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if f"testbed-init {name}/" in command or f"/{name}/" in command:
                    found.append(command)
    return [command for command in found if "pytest" not in command]


@pytest.mark.feature("D1")
def test_up_and_down_leave_the_host_as_it_was(state_dir: Path) -> None:
    before = host()
    cli("up", "--name", "lifecycle", "--nodes", "2")
    status = json.loads(cli("status", "-o", "json").stdout)["clusters"][0]
    assert status["healthy"]
    assert [machine["name"] for machine in status["machines"]] == ["controlplane", "node01", "node02"]
    assert host() == before, "while a cluster is up"
    nodes = cli("kubectl", "--name", "lifecycle", "--", "get", "nodes", "--no-headers").stdout
    assert [line.split()[:2] for line in nodes.splitlines()] == [
        ["controlplane", "Ready"],
        ["node01", "Ready"],
        ["node02", "Ready"],
    ]
    cli("down", "--name", "lifecycle")
    assert host() == before, "after it is down"
    assert living("lifecycle") == []
    assert not state_dir.exists()


@pytest.mark.feature("D1")
def test_two_clusters_live_side_by_side(state_dir: Path) -> None:
    cli("up", "--name", "one", "--nodes", "1")
    cli("up", "--name", "two", "--nodes", "1")
    cli("kubectl", "--name", "one", "--", "label", "namespace", "default", "only=here")
    labels = cli("kubectl", "--name", "two", "--", "get", "namespaces", "--show-labels").stdout
    assert "only=here" not in labels
    cli("down", "--name", "one")
    assert cli("kubectl", "--name", "two", "--", "get", "nodes").stdout.count(" Ready") == 2


@pytest.mark.parametrize("victim", ["kube-apiserver", "kubelet", "kube-proxy", "kube-controller-manager"])
@pytest.mark.feature("D11")
def test_a_killed_component_comes_back(state_dir: Path, victim: str) -> None:
    cli("up", "--name", "killed", "--nodes", "1")
    component = _component("killed", victim)
    cli("exec", "--name", "killed", "controlplane", "--", "kill", "-9", str(component["pid"]))
    deadline = time.monotonic() + 30
    while True:
        again = _component("killed", victim)
        if again["running"] and again["pid"] != component["pid"]:
            break
        assert time.monotonic() < deadline, again
    deadline = time.monotonic() + 60
    while cli("kubectl", "--name", "killed", "--", "get", "nodes", check=False).stdout.count(" Ready") < 2:
        assert time.monotonic() < deadline


def _component(cluster: str, name: str) -> dict[str, object]:
    status = json.loads(cli("status", "--name", cluster, "-o", "json", check=False).stdout)
    machine = status["clusters"][0]["machines"][0]
    found: dict[str, object] = machine["components"][name]
    return found


@pytest.mark.feature("D1", "D11")
def test_after_inits_were_killed_down_all_leaves_nothing(state_dir: Path) -> None:
    before = host()
    cli("up", "--name", "crashed", "--nodes", "2")
    cli("kubectl", "--name", "crashed", "--", "apply", "-f", "examples/nginx.yaml")
    for record in sorted((state_dir / "crashed" / "machines").glob("*.json"))[:3]:
        os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
    assert cli("status", check=False).returncode == 1
    cli("down", "--all")
    assert living("crashed") == []
    assert host() == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stage", ["machines", "components", "waiting"])
@pytest.mark.feature("D1")
def test_up_cut_short_leaves_nothing(state_dir: Path, signum: signal.Signals, stage: str) -> None:
    before = host()
    process = subprocess.Popen(
        [*TESTBED, "up", "--name", "cut"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(stage):
            break
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert process.returncode not in (0, 1)
    if signum == signal.SIGKILL:
        cli("down", "--all")
    assert not state_dir.exists()
    deadline = time.monotonic() + 10
    while living("cut"):
        assert time.monotonic() < deadline, living("cut")
    assert host() == before


REFUSALS = {
    "ranges": (
        ["up", "--cluster-cidr", "10.96.0.0/16"],
        "Pod range 10.96.0.0/16 overlaps Service range 10.96.0.0/12; choose ranges that are disjoint",
    ),
    "mode": (["up", "--proxy-mode", "magic"], "unknown proxy mode 'magic'; known are iptables"),
    "node ports": (["up", "--service-node-port-range", "9-1"], "service node port range '9-1' is not A-B"),
    "name": (["up", "--name", "a/b"], "cluster name 'a/b' is not a DNS label"),
    "no such file": (["up", "-f", "/nonexistent.yaml"], "cannot read /nonexistent.yaml"),
    "no such cluster": (["status", "--name", "none"], "no cluster 'none' on this machine"),
    "down": (["down", "--name", "none"], "no cluster 'none' on this machine"),
    "env": (["up", "--env", "fleet"], "--env fleet: `up` makes clusters on this machine only"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.feature("A14", "D1")
def test_wrong_use_gets_one_line_and_code_2(state_dir: Path, case: str) -> None:
    words, message = REFUSALS[case]
    done = cli(*words, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not state_dir.exists()


def test_a_cluster_file_that_does_not_parse(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    for text, message in (("a: [", "is not YAML"), ("nodez: 3", "unknown key 'nodez'"), ("- 1", "a mapping")):
        file.write_text(text)
        done = cli("up", "-f", str(file), check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_a_name_in_use(state_dir: Path) -> None:
    cli("up", "--name", "twice", "--nodes", "1")
    done = cli("up", "--name", "twice", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("testbed up: cluster name 'twice' is in use; take it down")
    assert cli("status", "--name", "twice").returncode == 0


def test_a_port_that_is_taken(state_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("up", "--api-port", str(port), check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"testbed up: port {port} on 127.0.0.1 is taken; choose another --api-port, or leave it out"
    )
    assert not state_dir.exists()


def _up_as_nobody() -> tuple[int, str]:
    # What `up` imports must be there before: this user may not be able to read it.
    import testbed.cli.up
    import testbed.lab.bringup
    import testbed.lab.spec
    import testbed.proxy.modes  # noqa: F401

    os.seteuid(65534)
    with contextlib.redirect_stderr(io.StringIO()) as words:
        code = main(["up"])
    return code, words.getvalue()


def test_without_root() -> None:
    with Worker() as worker:
        code, words = worker.call(_up_as_nobody)
    assert code == 2
    assert words.startswith("testbed up: namespaces need root")
    assert len(words.splitlines()) == 1
