"""The real VM: exit codes, streams, files, what its kernel can do, and that nothing outlives its starter."""

import io
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import vm
from testbed.errors import TestbedError
from testbed.vm import qemu

pytestmark = pytest.mark.moves_itself

DEADLINE = 60  # s


def run(line: str, **options) -> tuple[int, str, str]:
    out, err = io.BytesIO(), io.BytesIO()
    code = vm.run(["sh", "-c", line], stdout=out, stderr=err, timeout=DEADLINE, **options)
    return code, out.getvalue().decode(), err.getvalue().decode()


def test_the_command_runs_as_here_with_its_own_streams_and_exit_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "dark 'green'")
    code, out, err = run(
        'id -u; pwd; echo "$COLOUR $SHAPE"; echo complaint >&2; cat; exit 37', env={"SHAPE": "round"}
    )
    assert (code, err) == (37, "complaint\n")
    assert out == f"0\n{tmp_path}\ndark 'green' round\n"


def test_results_come_back_and_nothing_else_changes(tmp_path, monkeypatch) -> None:
    here, shared = tmp_path / "here", tmp_path / "shared, too"
    here.mkdir()
    shared.mkdir()
    monkeypatch.chdir(here)
    mark = Path("/etc/testbed-vm-test")
    code, out, err = run(
        f"seq 100000 > big; echo result > '{shared}/result'; echo lost > {mark} && cat {mark}", rw=[shared]
    )
    assert (code, out, err) == (0, "lost\n", "")
    assert (here / "big").read_text().count("\n") == 100000
    assert (shared / "result").read_text() == "result\n"
    assert not mark.exists()


def test_all_output_arrives(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("seq 200000; sleep 1000 & echo the last line")
    assert code == 0
    assert out == "".join(f"{i}\n" for i in range(1, 200001)) + "the last line\n"


def test_a_panic_is_told_as_such(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TestbedError, match=r"the VM died before the command ended: .*Kernel panic"):
        run("echo c > /proc/sysrq-trigger; sleep 60")


def test_one_whose_processors_hang_is_given_up(tmp_path, monkeypatch) -> None:
    """Told by what the kernel's watchdog writes."""
    monkeypatch.chdir(tmp_path)
    told = "<0>watchdog: BUG: soft lockup - CPU#1 stuck for {}s! [python:159]"
    first, then = told.format(qemu.STUCK - 1), told.format(qemu.STUCK + 5)
    assert run(f"echo '{first}' > /dev/kmsg; sleep 3; echo goes on") == (0, "goes on\n", "")
    with pytest.raises(qemu.Stuck, match=f"its processors hang, for {qemu.STUCK + 5} s"):
        run(f"echo '{first}' > /dev/kmsg; echo '{then}' > /dev/kmsg; sleep 1000")


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_the_vm_ends_with_its_starter(signum, expected, tmp_path) -> None:
    command = [sys.executable, "-m", "testbed.cli.main", "vm", "run", "--", "sh", "-c", "echo up; sleep 1000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == b"up\n"
        children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
        machines = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("qemu")]
        assert len(machines) == 1
        machine = os.pidfd_open(machines[0])
        try:
            starter.send_signal(signum)
            assert starter.wait(DEADLINE) == expected
            ended, _, _ = select.select([machine], [], [], 10)
            assert ended == [machine]
        finally:
            os.close(machine)


def test_time_is_limited(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TestbedError, match="the VM had not ended after 1 s"):
        vm.run(["sleep", "1000"], timeout=1)


def test_the_accelerator_is_one_that_works() -> None:
    assert qemu.best_accelerator() in ("kvm", "tcg")
