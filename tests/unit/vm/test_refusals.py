"""What a user can get wrong about a VM: one line each with the remedy, before anything is started."""

import pytest

from testbed import vm
from testbed.errors import UsageError
from testbed.kernel import features
from testbed.vm import qemu


def test_no_command() -> None:
    with pytest.raises(UsageError, match=r"no command for the VM: testbed vm run -- ARGV…"):
        vm.run([])


def test_a_directory_that_is_none() -> None:
    with pytest.raises(UsageError, match="cannot share /nowhere: no such directory"):
        vm.run(["true"], rw=["/nowhere"])


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu.shutil, "which", lambda name: None)
    with pytest.raises(
        UsageError, match="a VM needs qemu-system-x86_64: apt-get install qemu-system-x86, or make"
    ):
        vm.run(["true"])


def test_inside_a_vm_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "missing", list)
    monkeypatch.delenv("TESTBED_ENV", raising=False)
    assert vm.needed(["ip_vs", "dummy"]) == ["ip_vs", "dummy"]
    monkeypatch.setenv("TESTBED_ENV", "vm")
    assert vm.needed(["ip_vs", "dummy"]) == []
    with pytest.raises(UsageError, match="this is a VM already"):
        vm.run(["true"])


def test_moving_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    calls = []
    monkeypatch.delenv("TESTBED_ENV", raising=False)
    monkeypatch.setattr(features, "missing", lambda names: ["ip_vs"])
    monkeypatch.setattr(features, "kernel", lambda: "6.18.0")
    monkeypatch.setattr(vm.move.__globals__["kernels"], "default", lambda: "Debian 6.1.0")
    monkeypatch.setattr(qemu, "best_accelerator", lambda: "tcg")
    monkeypatch.setattr(qemu, "run", lambda argv, **options: calls.append((argv, options)) or 7)
    assert vm.move(["ip_vs", "veth"], ["testbed", "verify"], rw=["/results"]) == 7
    assert calls == [(["testbed", "verify"], {"rw": ["/results"]})]
    expected = "kernel 6.18.0 has no ip_vs: running in a VM (QEMU TCG, Debian 6.1.0)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": 2}, "counts those of one CPU: leave --cpus out"),
        ({"accelerator": "kvm"}, "needs emulation"),
        ({"clock": "sundial"}, "unknown clock 'sundial'; a VM knows wall, instructions"),
    ],
)
def test_what_the_instruction_clock_cannot_do(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        vm.run(["true"], **{"clock": "instructions", **options})
