"""The words of `testbed verify`: what it takes, what it refuses, what it prints. No root, no cluster."""

from __future__ import annotations

import argparse
import json

import pytest

from testbed.cli import verify
from testbed.cli.main import main
from testbed.errors import UsageError
from testbed.model.cases import CASES, LIVE_CASES
from testbed.packets.columns import Column, parse, usual
from testbed.packets.mutants import Mutant, in_words, joined, score
from testbed.packets.verdict import Verdict, report, table, together
from testbed.proxy.modes import NAMES


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


def columns(text: str, cases: str = "*", **options: bool) -> list[Column]:
    return list(parse(text, NAMES, cases, **options))


def test_modes_keep_their_order_and_come_once() -> None:
    assert [column.name for column in columns("iptables, ipvs,iptables")] == ["iptables", "ipvs"]
    assert [column.mode for column in columns("theirs,iptables", any_mode=True)] == ["theirs", "iptables"]
    with pytest.raises(UsageError):
        columns("theirs")


def test_a_variant_of_iptables_is_a_column_of_its_own() -> None:
    found = columns("iptables-legacy,iptables-nft")
    assert [(column.mode, column.variant) for column in found] == [
        ("iptables", "legacy"),
        ("iptables", "nft"),
    ]
    assert set(usual(NAMES).split(",")) >= {
        "iptables-legacy",
        "iptables-nft",
        "ipvs",
        "nftables",
        "userspace",
    }


def test_a_glob_chooses() -> None:
    (whole,) = columns("iptables")
    assert (whole.cases, whole.live) == (CASES, LIVE_CASES)
    (part,) = columns("iptables", "node-port/*/client/*")
    assert part.cases
    assert not part.live
    assert all(case.name.startswith("node-port/") and "/client/" in case.name for case in part.cases)


def test_a_column_may_have_a_glob_of_its_own() -> None:
    whole, part = columns("iptables,ipvs@*/udp", "pod/*")
    assert {case.protocol for case in whole.cases} == {"TCP", "UDP", "SCTP"}
    assert {case.protocol for case in part.cases} == {"UDP"}
    assert {case.to for case in part.cases} == {"pod"}


def test_what_the_kernel_lacks_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.kernel.features.has", lambda feature: feature != "ip_vs")
    monkeypatch.setattr("testbed.vm.inside", lambda: False)
    chosen = columns("iptables,ipvs")
    here, moved = verify.parted(chosen, "auto")
    assert [[column.name for column in part] for part in (here, moved)] == [["iptables"], ["ipvs"]]
    assert verify.parted(chosen, "vm") == ([], chosen)
    with pytest.raises(UsageError, match="ipvs needs ip_vs"):
        verify.parted(chosen, "native")


@pytest.mark.feature("B1", "D3")
def test_sctp_of_every_mode_moves_where_the_kernel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.kernel.features.has", lambda feature: feature != "sctp")
    chosen = columns("iptables,userspace@*/near/*", "cluster-ip/*")
    here, moved = verify.without_sctp(chosen)
    assert {case.protocol for column in here for case in column.cases} == {"TCP", "UDP"}
    assert {case.protocol for column in moved for case in column.cases} == {"SCTP"}
    again = columns(",".join(column.text for column in moved), "cluster-ip/*")
    assert [column.cases for column in again] == [column.cases for column in moved]
    for left, went, whole in zip(here, moved, chosen, strict=True):
        assert {*left.cases, *went.cases} == {*whole.cases}
    assert verify.without_sctp(columns("iptables", "*/udp")) == (columns("iptables", "*/udp"), [])
    assert verify.without_sctp(columns("iptables", "*/sctp"))[0] == []
    monkeypatch.setattr("testbed.kernel.features.has", lambda feature: True)
    assert verify.without_sctp(chosen) == (chosen, [])


def test_the_command_for_the_vm_is_the_same_command() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-v", "--verbose", action="store_true")
    verify.add_arguments(parser)
    words = ["--cases", "pod/*", "--name", "n", "-o", "json", "--proxy-command", "p {node}", "--verbose"]
    args = parser.parse_args(words)
    again = verify.command_line(args, columns("ipvs@*/tcp"))
    assert parser.parse_args(again[again.index("verify") + 1 :]) == argparse.Namespace(
        **{**vars(args), "modes": "ipvs@*/tcp"}
    )


VERDICTS = [
    Verdict("iptables", "pod/near/node/tcp", "node", "TCP", "IPv4", "near sees a", "near saw a", "passed"),
    Verdict("iptables", "pod/near/node/udp", "node", "UDP", "IPv4", "near sees a", "near saw b", "failed"),
    Verdict("ipvs", "pod/near/node/tcp", "node", "TCP", "IPv4", "", "no switch to ipvs", "not_run"),
]


HERE = {"name": "native", "kernel": "Linux 6.18", "processor": "some, 2 CPUs"}
THERE = {"name": "vm", "kernel": "Linux 6.1", "processor": "emulated"}


def test_the_report_has_the_promised_form() -> None:
    found = json.loads(json.dumps(report(VERDICTS, HERE)))
    assert set(found) == {"environment", "environments", "modes", "cases"}
    assert found["modes"] == {
        "iptables": {"passed": 1, "failed": 1, "not_run": 0},
        "ipvs": {"passed": 0, "failed": 0, "not_run": 1},
    }
    fields = {"mode", "case", "source", "protocol", "family", "expected", "seen", "verdict", "environment"}
    assert all(set(case) == fields for case in found["cases"])
    assert found["environment"]["kernel"]


def test_the_table_names_kinds_sources_and_modes() -> None:
    lines = table(report(VERDICTS, HERE)).splitlines()
    assert lines[0].split() == ["to", "from", "iptables", "ipvs"]
    assert lines[1].split("  ")[0] == "pod"
    assert "1 passed, 1 failed" in lines[1]
    assert lines[-2].startswith("all")
    assert lines[-2].endswith("1 not run")
    assert lines[-1] == "native: Linux 6.18, some, 2 CPUs"


def test_environments_are_told_apart() -> None:
    whole = together([report(VERDICTS[:2], HERE), report(VERDICTS[:1] + VERDICTS[2:], THERE)])
    assert whole["environment"] == HERE
    assert whole["modes"]["iptables"] == {"passed": 2, "failed": 1, "not_run": 0}
    assert [case["environment"] for case in whole["cases"]] == ["native", "native", "vm", "vm"]
    lines = table(whole).splitlines()
    assert lines[0].split() == ["to", "from", "iptables", "iptables", "ipvs"]
    assert lines[1].split() == ["(native)", "(vm)", "(vm)"]


def test_the_score_is_told_mode_by_mode() -> None:
    caught, missed = Mutant("ipvs", "a", "case", "seen"), Mutant("iptables", "b", "", "")
    found = joined([score([caught, missed]), score([caught])])
    assert (found["caught"], found["faults"]) == (2, 3)
    assert in_words(found).splitlines() == [
        "ipvs: 2 of 2 faults caught",
        "iptables: 0 of 1 faults caught",
        "2 of 3 faults caught",
    ]
