"""The instruction clock: what it refuses, what the guest is given, and how its figures are shown."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from testbed.bench import compare, counted, report, rules, scene
from testbed.bench.columns import DIRECT
from testbed.bench.counted import parse_modes
from testbed.bench.measures import FIRST_PACKET
from testbed.bench.record import Cell, Results, Run, load_results
from testbed.bench.saving import save
from testbed.bench.summary import summarise
from testbed.bench.tables import figures, to_text
from testbed.bench.units import INSTRUCTIONS
from testbed.bench.words import sentences, slope
from testbed.cli.main import main
from testbed.errors import UsageError

FACTS = {"engine": "QEMU 7 TCG", "kernel": "Linux 6.1", "processor": "q", "iptables": "iptables v1.8.9"}


def run(*, more: int = 0) -> Run:
    """Direct takes 50,000 instructions; iptables-legacy 14,000 more, and 26 for each Service but one."""
    cells = []
    for services in (1, 1000):
        for mode, count in ((DIRECT, 50_000), ("iptables-legacy", 64_000 + 26 * (services - 1) + more)):
            samples = tuple((count + i % 3 - 1) / 1e3 for i in range(150))
            places = ("only" if services == 1 or mode == DIRECT else "last",) * 150
            blocks = tuple(i // 5 for i in range(150))
            cells.append(Cell(INSTRUCTIONS, FIRST_PACKET.name, services, mode, samples, blocks, places))
    return Run(INSTRUCTIONS, FACTS, {"rounds": 30}, {}, tuple(cells))


def test_figures_are_instructions_and_say_what_a_service_costs():
    summary = summarise(run())
    text = to_text(figures(summary, FIRST_PACKET.name))
    assert "median instructions" in text
    assert "89,974 (89,974–89,974)" in text
    assert "µs" not in text
    assert slope(summary, "iptables-legacy", 1, 1000) == pytest.approx(26)
    said = "\n".join(sentences(summary))
    assert (
        "Instructions for each Service more, from 1 Service to 1,000 Services: iptables-legacy 26.00." in said
    )
    assert "not times" in said


def test_results_have_the_form_of_all_others_and_pytest_benchmark_reads_them(tmp_path):
    save(tmp_path, [run()])
    assert load_results(tmp_path).runs == (run(),)
    words = [sys.executable, "-m", "pytest_benchmark", "compare", str(tmp_path / "results.json")]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "instructions-1000-iptables-legacy" in listed
    page = (tmp_path / "report.html").read_text()
    assert "thousand instructions" in page
    assert "underlay bridge" not in page
    assert "µs" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "verdict"), [(0, "the same within 0.5%"), (300, "the same"), (2000, "more")]
)
def test_two_runs_are_compared_to_half_a_percent(more, verdict):
    (pair,) = compare.comparable(Results((run(),)), Results((run(more=more),)))
    (table,) = compare.tables(*pair)
    rows = {(row[0], row[1]): row for row in table.rows}
    assert rows["1", "iptables-legacy"][-1].startswith(verdict)
    assert rows["1", DIRECT][-1].startswith("the same")
    assert rows["1", "iptables-legacy"][4].startswith(f"{more / 640:+.2f} %")


def test_clocks_are_never_mixed():
    wall = Run(
        "vm",
        FACTS,
        {},
        {},
        tuple(replace(cell, environment="vm") for cell in run().cells),
    )
    with pytest.raises(UsageError, match="measured in instructions, the other in vm"):
        compare.comparable(Results((run(),)), Results((wall,)))
    shown = report.markdown(report.summaries(Results((run(), wall))), "")
    assert shown.index("## Under the instruction clock") < shown.index("## In a virtual machine")


def test_guests_of_another_size_are_not_compared():
    other = Run(INSTRUCTIONS, {**FACTS, "beside": "direct 1"}, {}, {}, run().cells)
    with pytest.raises(UsageError, match="beside was '', is 'direct 1'"):
        compare.comparable(Results((run(),)), Results((other,)))


def test_iptables_stands_for_both_variants():
    assert parse_modes("iptables,ipvs") == ("iptables-legacy", "iptables-nft", "ipvs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modes", "ebtables"], "unknown mode 'ebtables'; --clock instructions knows iptables"),
        (["--modes", "iptables,iptables-nft"], "name each mode once"),
        (["--services", "0"], "each must be between"),
        (["--env", "native"], "--clock instructions counts in a VM: leave --env out"),
        (["--services", ",".join(map(str, range(1, 30)))], "takes 80 modes × sizes at most, not 203"),
    ],
)
def test_what_it_cannot_do_is_one_line(words, message, capsys):
    assert main(["bench", "--clock", "instructions", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(message, said)


def test_the_guest_gets_each_modes_own_rules(tmp_path):
    spots = [counted.Spot(mode, mode, 3) for mode in (DIRECT, *counted.MODES)]
    task = counted._task(spots, tmp_path)
    assert task["columns"][0] == {"mode": DIRECT, "rules": "", "target": scene.BACKEND}
    assert {column["target"] for column in task["columns"][1:]} == {rules.cluster_ip(2)} == {"10.96.1.2"}
    legacy = (tmp_path / "iptables-legacy-3").read_text()
    assert legacy == (tmp_path / "iptables-nft-3").read_text()
    assert legacy.count("-A KUBE-SERVICES -d 10.96.1.") == 3
    assert "-I PREROUTING 1 " in legacy
    assert f"--to-destination {scene.BACKEND}:80" in legacy
    served = pickle.loads((tmp_path / "userspace-3").read_bytes())
    assert [one.endpoints for one in served.listeners.values()] == [((scene.BACKEND, 80),)] * 3
    table = pickle.loads((tmp_path / "nftables-3").read_bytes())
    assert sum("10.96.1." in key for key in table.sets["service-ips"].elements) == 3
    json.dumps(task)


def test_every_end_of_a_row_knows_its_neighbour():
    lines = {role: list(scene.settings(role)) for role in scene.ROW}
    assert "neigh replace 10.244.1.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0" in lines["client"]
    assert "neigh replace 10.244.1.2 lladdr 02:00:00:00:00:00 nud permanent dev pod" in lines["node"]
    assert all(own[-1].startswith("route add ") for own in lines.values())
