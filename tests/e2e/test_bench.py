"""A small run of the benchmark for real: every kind of measure on every path, and a proxy of one's own."""

import json
import subprocess
import sys

import pytest

from testbed.bench.collect import KNOWN
from testbed.bench.columns import DIRECT, columns
from testbed.bench.measures import MEASURES
from testbed.bench.native import CLUSTER
from testbed.bench.plan import OTHER_NODE, OUTSIDE, SAME_NODE, Plan, Profile
from testbed.bench.record import load_run
from testbed.lab.state import clusters

pytestmark = pytest.mark.feature("D5", "D6")

OWN = f"{sys.executable} -m testbed.cli.main kube-proxy --kubeconfig {{kubeconfig}} --proxy-mode iptables"
TINY = Profile("tiny", (3,), rounds=3, samples=6, bursts=1, seconds=0.2, changes=1, starts=1)
ENDPOINTS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    room = tmp_path_factory.mktemp("run")
    chosen = columns("iptables", [f"own={OWN} --hostname-override {{node}}"])
    plan = Plan(chosen, (3,), KNOWN, TINY, (ENDPOINTS,), (OTHER_NODE, SAME_NODE, OUTSIDE))
    (room / "plan.json").write_text(json.dumps(plan.to_json()))
    words = [sys.executable, "-m", "testbed.cli.main", "bench", f"--collect={room}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "s left" in done.stderr
    return load_run((room / "run.json").read_text())


@pytest.mark.parametrize("measure", KNOWN)
def test_every_measure_is_taken_in_every_column(run, measure):
    modes = ("iptables", "own") if MEASURES[measure].no_direct else (DIRECT, "iptables", "own")
    for mode in modes:
        cell = run.cell(measure, 3, mode, ENDPOINTS)
        assert cell, mode
        assert cell.lost == 0
        assert min(cell.samples) >= 0


@pytest.mark.parametrize("path", [SAME_NODE, OUTSIDE])
@pytest.mark.parametrize("measure", ["first-packet", "keep-alive", "new-connections", "connections-held"])
def test_other_paths_are_measured_too(run, measure, path):
    assert all(run.cell(measure, 3, mode, ENDPOINTS, path) for mode in (DIRECT, "iptables", "own"))


def test_connections_are_held_and_nothing_is_lost_of_what_was_asked(run):
    assert run.cell("connections-held", 3, "iptables", ENDPOINTS).samples == (1000,)
    assert run.plan["endpoints"] == [ENDPOINTS]
    assert CLUSTER not in clusters()
