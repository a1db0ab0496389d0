"""`testbed verify` as a user runs it: on a cluster of its own, of which nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import rdpcap

from testbed.lab import state
from testbed.model.cases import CASES, LIVE_CASES
from testbed.packets.patience import patience

NO_SCTP = "*[tu][cd]p"
"""Cases of TCP and UDP. For SCTP a VM would be needed."""
VERIFY = [sys.executable, "-m", "testbed.cli.main", "verify"]


def verify(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([*VERIFY, "-o", "json", *words], stdout=subprocess.PIPE, text=True, timeout=900)
    return done.returncode, json.loads(done.stdout)


def failures(report: dict[str, Any]) -> list[str]:
    return [f"{c['mode']} {c['case']}: {c['seen']}" for c in report["cases"] if c["verdict"] != "passed"]


@pytest.mark.feature(
    "A4", "A5", "A6", "A8", "A17", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B11", "D3", "D4"
)
def test_all_cases_pass_in_all_modes() -> None:
    """At the same time here and, what this kernel lacks, in a VM.

    SCTP in one mode: where it needs the VM, that of the others takes two minutes more
    (tests/kernel/test_proxy_sctp.py has them).
    """
    patterns = {"iptables": NO_SCTP, "ipvs": "*", "nftables": NO_SCTP, "userspace": NO_SCTP}
    chosen = ",".join(f"{mode}@{pattern}" for mode, pattern in patterns.items())
    code, report = verify("--modes", chosen, "--name", "e2e-verify")
    assert failures(report) == []
    assert (code, set(report["modes"])) == (0, set(patterns))
    every = [*(case.name for case in CASES), *LIVE_CASES]
    switches = 0
    for mode, pattern in patterns.items():
        names = [case["case"] for case in report["cases"] if case["mode"] == mode]
        due = sorted(name for name in every if fnmatchcase(name, pattern))
        assert sorted(name for name in names if not name.startswith("leftovers/")) == due
        switches += sum(name.startswith("leftovers/") for name in names) // 3
    # on each of three nodes also, after each switch: nothing of the mode before is left
    columns = {(case["mode"], case["environment"]) for case in report["cases"]}
    assert switches == len(columns) - len(report["environments"])
    assert "e2e-verify" not in state.clusters()


@pytest.mark.feature("D10")
def test_a_proxy_that_does_nothing_fails(tmp_path: Path) -> None:
    words = ["--modes", "iptables", "--cases", "*/near/same-node-pod/tcp", "--name", "e2e-idle"]
    words += ["--failures", str(tmp_path)]
    code, report = verify(*words, "--proxy-command", "sleep infinity")
    assert code == 1
    kept = tmp_path / "iptables" / "cluster-ip_near_same-node-pod_tcp"
    assert rdpcap(str(kept / "caller.pcap")), "what it sent is kept"
    assert rdpcap(str(kept / "client.pcap")), "that it came to the client, where all goes that nobody has"
    verdicts = {case["case"]: case["verdict"] for case in report["cases"]}
    assert verdicts["cluster-ip/near/same-node-pod/tcp"] == "failed"
    assert verdicts["pod/near/same-node-pod/tcp"] == "passed"


@pytest.mark.feature("D4", "D11")
def test_faults_are_caught_and_one_that_no_case_looks_at_is_not() -> None:
    words = ["--mutations", "no-hairpin", "--modes", "iptables", "--name", "e2e-faults", "-o", "json"]
    for cases, caught in (("*/itself/*", 1), ("pod/*", 0)):
        done = subprocess.run([*VERIFY, *words, "--cases", cases], stdout=subprocess.PIPE, timeout=900)
        score = json.loads(done.stdout)
        assert (score["caught"], score["faults"], done.returncode) == (caught, 1, 1 - caught)


FLAGS = "--kubeconfig {kubeconfig} --proxy-mode {mode} --hostname-override {node}"
AGENT = " ".join([*VERIFY[:-1], "kube-proxy", FLAGS])


@pytest.mark.feature("D5")
def test_a_proxy_brought_along_is_judged_by_the_same_cases(tmp_path: Path) -> None:
    """The agent, told to masquerade everything, is caught where a Pod's address must stay, and only there."""
    command = f"{AGENT} --cluster-cidr 10.244.0.0/16 --masquerade-all"
    words = [
        "--modes",
        "iptables",
        "--families",
        "IPv4",
        "--cases",
        f"*/same-node-pod/{NO_SCTP}",
        "--name",
        "e2e-own",
    ]
    code, report = verify(*words, "--failures", str(tmp_path), "--proxy-command", command)
    assert code == 1
    caught = {case["case"] for case in report["cases"] if case["verdict"] == "failed"}
    inside = [case for case in report["cases"] if case["case"].startswith("cluster-ip/")]
    assert caught == {case["case"] for case in inside if case["expected"] != "TCP reset"}
    assert len(caught) > 10
    kept = tmp_path / "iptables" / "cluster-ip_near_same-node-pod_tcp"
    assert "KUBE-SEP-" in (kept / "node01.iptables.txt").read_text(), "the rules of that moment are kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        running = subprocess.Popen([*VERIFY, "--modes", "iptables", "--name", "e2e-stop"], stderr=stderr)
        deadline = time.monotonic() + patience(60)
        while "iptables: " not in log.read_text():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(running.pid, number)
        assert running.wait(timeout=patience(30)) == 130
    assert "e2e-stop" not in state.clusters()


def test_a_proxy_command_that_cannot_be_filled_in_is_refused_in_one_line() -> None:
    words = [*VERIFY, "--modes", "iptables", "--name", "e2e-brace", "--proxy-command", "proxy {nod}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=patience(60))
    assert done.returncode == 2
    assert "{kubeconfig}, {node} and {mode}" in done.stderr.splitlines()[-1]
    assert "e2e-brace" not in state.clusters()
