"""The words of `testbed verify`: what it takes, what it refuses, what it prints. No root, no cluster."""

from __future__ import annotations

import argparse
import json

import pytest

from testbed.cli import verify
from testbed.cli.main import main
from testbed.errors import UsageError
from testbed.model.cases import CASES
from testbed.packets.matrix import Verdict


@pytest.mark.parametrize("words", [["--modes", "iptabels"], ["--modes", ""], ["--modes", "iptables,,ipvs"]])
def test_an_unknown_mode_is_one_line_with_the_known_ones(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown proxy mode" in line
    assert "known are iptables" in line


def test_a_glob_without_cases_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--cases", "no-such"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--cases 'no-such'" in line


def test_modes_keep_their_order_and_come_once() -> None:
    assert verify.chosen_modes("iptables, iptables") == ("iptables",)
    assert verify.chosen_modes(None)[0] == "iptables"
    assert verify.chosen_modes("theirs,iptables", any_mode=True) == ("theirs", "iptables")
    with pytest.raises(UsageError):
        verify.chosen_modes("theirs")


def test_a_glob_chooses() -> None:
    assert verify.chosen_cases("*") == CASES
    names = [case.name for case in verify.chosen_cases("node-port/*/client/*")]
    assert names
    assert all(name.startswith("node-port/") and "/client/" in name for name in names)


def test_the_command_for_the_vm_is_the_same_command() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-v", "--verbose", action="store_true")
    verify.add_arguments(parser)
    words = ["--cases", "pod/*", "--name", "n", "-o", "json", "--proxy-command", "p {node}", "--verbose"]
    args = parser.parse_args(words)
    again = verify.command_line(args, ["ipvs"])
    assert parser.parse_args(again[again.index("verify") + 1 :]) == argparse.Namespace(
        **{**vars(args), "modes": "ipvs"}
    )


VERDICTS = [
    Verdict("iptables", "pod/near/node/tcp", "node", "TCP", "IPv4", "near sees a", "near saw a", "passed"),
    Verdict("iptables", "pod/near/node/udp", "node", "UDP", "IPv4", "near sees a", "near saw b", "failed"),
    Verdict("ipvs", "pod/near/node/tcp", "node", "TCP", "IPv4", "", "no switch to ipvs", "not_run"),
]


def test_the_report_has_the_promised_form() -> None:
    report = json.loads(json.dumps(verify.report(VERDICTS, ["iptables", "ipvs"])))
    assert set(report) == {"environment", "modes", "cases"}
    assert report["modes"] == {
        "iptables": {"passed": 1, "failed": 1, "not_run": 0},
        "ipvs": {"passed": 0, "failed": 0, "not_run": 1},
    }
    fields = {"mode", "case", "source", "protocol", "family", "expected", "seen", "verdict"}
    assert all(set(case) == fields for case in report["cases"])
    assert report["environment"]["kernel"]


def test_the_table_names_kinds_sources_and_modes() -> None:
    lines = verify.table(verify.report(VERDICTS, ["iptables", "ipvs"])).splitlines()
    assert lines[0].split() == ["to", "from", "iptables", "ipvs"]
    assert lines[1].split("  ")[0] == "pod"
    assert "1 passed, 1 failed" in lines[1]
    assert lines[-1].startswith("all")
    assert lines[-1].endswith("1 not run")
