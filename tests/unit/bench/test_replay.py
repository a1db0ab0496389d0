"""`pytest benchmarks/` as a user runs it, with a collector that takes no samples but has them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.bench.record import load_results

LATENCIES = ("-k", "first-packet or first-byte or keep-alive")
CHECKOUT = Path(__file__).parents[3]
STAND_IN = """
import os
from dataclasses import replace
import testbed.bench.gather
from testbed.bench.record import Cell, Run

COST = {"direct": 10.0, "iptables": 20.0}

def values(mode):
    return tuple(COST[mode] + i % 7 for i in range(120))

def gather(environment, plan, directory):
    print("asked:", environment, plan.names, plan.sizes, plan.measures)
    blocks = tuple(block for block in range(12) for _ in range(10))
    places = ("last",) * 120
    cells = tuple(
        Cell(environment, measure, services, mode, values(mode), blocks, places)
        for measure in plan.measures
        for services in plan.sizes
        for mode in plan.names
        if (services, 1) not in plan.done
    )
    run = Run(environment, {"kernel": "KERNEL"}, cells=cells, plan=plan.to_json())
    if "CUT" in os.environ:
        kept = replace(run, cells=tuple(cell for cell in cells if cell.services == plan.sizes[0]))
        raise testbed.bench.gather.Cut("interrupted", kept)
    return run

testbed.bench.gather.gather = gather
"""


@pytest.fixture
def bench(tmp_path):
    """Runs `pytest benchmarks/ …`; results go to tmp_path/results. `kernel` is what the stand-in says."""

    def run(*words, kernel="one", **environment):
        (tmp_path / "stand_in.py").write_text(STAND_IN.replace("KERNEL", kernel))
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "stand_in",
            "-p",
            "no:cacheprovider",
            "-s",
            "benchmarks",
        ]
        argv += ["--modes=iptables", "--env=native", f"--results={tmp_path / 'results'}"]
        argv += [f"--benchmark-storage=file://{tmp_path / 'store'}", *words]
        done = subprocess.run(
            argv,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.feature("D6", "D8")
def test_a_run_leaves_true_samples_and_reports(bench, tmp_path):
    code, said = bench("--services=1,100", *LATENCIES)
    assert code == 0, said
    results = json.loads((tmp_path / "results/results.json").read_text())
    cells = {(b["extra_info"]["measure"], b["extra_info"]["mode"]): b["stats"] for b in results["benchmarks"]}
    assert cells["first-packet", "iptables"]["median"] == pytest.approx(23e-6)
    assert sorted(set(cells["keep-alive", "direct"]["data"])) == pytest.approx(
        [x * 1e-6 for x in range(10, 17)]
    )
    assert len(results["benchmarks"]) == 3 * 2 * 2
    assert "asked: native ('direct', 'iptables') (1, 100)" in said
    assert "First packet, median at 100 Services: iptables 23.0 µs" in said
    assert "iptables" in (tmp_path / "results/report.html").read_text()
    assert (tmp_path / "results/report.md").read_text().startswith("# Service proxy modes compared")


def test_only_what_is_selected_is_collected(bench):
    code, said = bench("--services=1,100", "-k", "keep-alive and native-100-")
    assert code == 0, said
    assert "asked: native ('direct', 'iptables') (100,) ('keep-alive',)" in said
    assert "2 passed" in said


def test_what_was_measured_before_an_interruption_is_kept_and_gone_on_from(bench, tmp_path):
    words = ("--services=1,100", *LATENCIES)
    code, said = bench(*words, CUT="yes")
    assert code == 1
    assert "measuring (native): interrupted" in said
    kept = load_results(tmp_path / "results").runs[0]
    assert kept.sizes == (1,)
    code, said = bench(*words, "--resume")
    assert code == 0, said
    whole = load_results(tmp_path / "results").runs[0]
    assert whole.sizes == (1, 100)
    assert len(whole.cells) == 3 * 2 * 2
    code, said = bench("--services=1,100", "-k", "first-packet", "--resume")
    assert "--resume: other columns or measures than before" in said


def test_saved_figures_are_compared_but_not_with_those_of_another_kernel(bench):
    quick = ("--services=1", "-k", "keep-alive")
    assert bench(*quick, "--benchmark-save=before")[0] == 0
    code, said = bench(*quick, "--benchmark-compare", "--benchmark-compare-fail=median:1%")
    assert code == 0, said
    assert "(0001_before)" in said
    code, said = bench(*quick, "--benchmark-compare", kernel="two")
    assert "--benchmark-compare dropped: another environment, kernel was 'one', is 'two'" in said
    assert "(0001_before)" not in said.partition("dropped")[2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--modes=ebtables",), "unknown mode 'ebtables'"),
        (("--services=0",), "--services '0': each must be between 1 and 30,000"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(bench, words, line):
    code, said = bench(*words)
    assert code != 0
    assert line in said
    assert "Traceback" not in said


def test_sigterm_is_passed_on_and_the_other_has_the_time_to_end():
    """As Ctrl-C would; but a SIGTERM reaches one process only."""
    other = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('down')))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    inner = [sys.executable, "-c", other]
    outer = (
        "import subprocess, testbed.bench.gather as g; g.on_sigterm()\n"
        f"with subprocess.Popen({inner!r}) as other: g.ended(other)"
    )
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.read() == "down\n"
