"""The verdict of `testbed check`: what the main job needs, and what a VM makes up for."""

import json

import pytest

from testbed.cli import check, main
from testbed.kernel import features


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch):
    """A machine where everything is there but what a test says."""

    def set_up(*names: str, qemu: bool = True, programs: bool = True) -> list[check.Row]:
        machine = [check.Row("QEMU", check.OK if qemu else check.NO, "VMs")]
        monkeypatch.setattr(check, "machine", lambda: iter(machine))
        monkeypatch.setattr(check, "packages", lambda: iter(()))
        monkeypatch.setattr(features, "has", lambda name: name not in names)
        monkeypatch.setattr(check.shutil, "which", lambda name: f"/usr/bin/{name}" if programs else None)
        return list(check.checks())

    return set_up


def row(rows: list[check.Row], name: str) -> check.Row:
    return next(row for row in rows if row.name == name)


def test_all_there(lacking) -> None:
    rows = lacking()
    assert check.able(rows)
    assert {row.able for row in rows} == {check.OK}
    assert check.table(rows).endswith("the main job can run here: make bench")


def test_a_vm_makes_up_for_the_kernel(lacking) -> None:
    rows = lacking("ip_vs", "dummy")
    assert row(rows, "ip_vs").able == check.VM
    assert check.able(rows)


def test_without_a_vm_ip_vs_is_missing(lacking) -> None:
    rows = lacking("ip_vs", qemu=False)
    assert not check.able(rows)
    assert check.table(rows).endswith("cannot run here: ip_vs missing")
    assert "apt-get install qemu-system-x86" in row(rows, "ip_vs").remedy


def test_no_vm_makes_up_for_a_missing_program(lacking) -> None:
    rows = lacking("nf_tables", programs=False)
    assert row(rows, "nf_tables").able == check.NO
    assert row(rows, "nf_tables").remedy == "apt-get install nftables"


def test_nothing_makes_up_for_root(lacking) -> None:
    rows = lacking("root")
    assert row(rows, "root").able == check.NO
    assert not check.able(rows)


def test_exit_code_and_json(lacking, capsys: pytest.CaptureFixture[str]) -> None:
    lacking("netns")
    assert main.main(["check", "-o", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["able"] is False
    assert {"name", "able", "purpose", "remedy", "needed"} == set(told["checks"][0])
