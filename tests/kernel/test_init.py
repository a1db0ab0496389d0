"""A machine's init, for real: one is booted from namespaces and asked to start, watch and end things."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.lab.machine import Blueprint, Machine, boot
from testbed.lab.state import ProcessRecord, State
from testbed.node import runtime
from testbed.node.runtime import Mount, Process, Runtime, RuntimeRefusal


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("TESTBED_STATE_DIR", str(tmp_path / "state"))
    state = State.create("init-test")
    try:
        birth = boot(state, Blueprint("node01", [("node01", "172.30.0.11")], iptables="legacy"))
        birth.ready()
        birth.commit()
        yield Machine("node01", state.machines()["node01"].pid)
    finally:
        state.destroy()
    assert not state.path.exists()


def run(machine: Machine, *argv: str, **options: object) -> runtime.Finished:
    process = Process("", argv, **options)  # type: ignore[arg-type]
    return asyncio.run(Runtime(machine.init_socket).run(process, b"typed in"))


def test_the_machine_is_its_own(machine: Machine) -> None:
    script = "hostname; cat /etc/hosts; ls /run; iptables --version; ps -e | wc -l"
    lines = machine.run(["sh", "-c", script]).stdout.splitlines()
    assert lines[0] == "node01"
    assert "172.30.0.11 node01" in lines
    assert {"init.sock", "netns"} <= set(lines)
    assert any("legacy" in line for line in lines)
    assert int(lines[-1]) < 10


def test_what_it_writes_stays_its_own(machine: Machine) -> None:
    marker = f"/etc/testbed-marker-{os.getpid()}"
    machine.run(["touch", marker])
    assert machine.run(["ls", marker]).stdout.strip() == marker
    assert not Path(marker).exists()


def test_one_shot_processes_have_stdin_stdout_stderr_and_a_code(machine: Machine) -> None:
    assert run(machine, "sh", "-c", "cat; echo problem >&2; exit 3") == runtime.Finished(
        3, b"typed in", b"problem\n"
    )


def test_a_one_shot_process_is_forgotten_at_its_end_and_killed_at_its_time_out(machine: Machine) -> None:
    with pytest.raises(TimeoutError, match=r"sleep did not end within 0\.1 s"):
        asyncio.run(Runtime(machine.init_socket).run(Process("slow", ("sleep", "77")), timeout=0.1))
    run(machine, "true")
    assert runtime.call({"do": "list"}, machine.init_socket)["list"] == []
    assert "sleep 77" not in machine.run(["ps", "-eo", "args"]).stdout


def test_the_projects_own_programs_are_forked(machine: Machine) -> None:
    finished = run(machine, "testbed", "--version")
    assert finished.code == 0
    assert finished.stdout.count(b".") >= 1


def test_a_missing_program_is_told_at_once(machine: Machine) -> None:
    with pytest.raises(RuntimeRefusal, match="no-such-program: No such file"):
        run(machine, "no-such-program")


def test_a_missing_namespace_is_told_at_once(machine: Machine) -> None:
    with pytest.raises(RuntimeRefusal, match="No such file"):
        run(machine, "true", netns="/run/netns/none")


def test_a_container_has_its_own_pids_host_name_and_mounts(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "secret"
    source.write_text("inside")
    finished = run(
        machine,
        "sh",
        "-c",
        "echo $$ $(hostname) $(cat /etc/keys/secret); touch /etc/keys/secret || echo refused",
        pidns=True,
        hostname="pod-a",
        mounts=(Mount(str(source), "/etc/keys/secret", readonly=True),),
    )
    assert finished.stdout.decode().splitlines() == ["1 pod-a inside", "refused"]


def test_the_end_of_a_containers_first_process_is_the_end_of_all(machine: Machine) -> None:
    async def scenario() -> None:
        client = Runtime(machine.init_socket)
        exits = client.exits()
        waiting = asyncio.ensure_future(anext(exits))
        await asyncio.sleep(0)
        argv = ("sh", "-c", "setsid sleep 4321 & exec sleep 1234")
        status = await client.start(Process("container", argv, pidns=True))
        while "sleep 4321" not in machine.run(["ps", "-eo", "args"]).stdout:
            await asyncio.sleep(0.02)
        await client.signal("container", signal.SIGKILL)
        ended = await asyncio.wait_for(waiting, 10)
        assert (ended.id, ended.pid, ended.exit_code) == ("container", status.pid, -signal.SIGKILL)
        assert "sleep 4321" not in machine.run(["ps", "-eo", "args"]).stdout

    asyncio.run(scenario())


def test_a_unit_that_ends_is_started_again_until_it_is_stopped(machine: Machine) -> None:
    async def scenario() -> None:
        client = Runtime(machine.init_socket)
        first = await client.start(Process("unit", ("sleep", "1000"), restart=True))
        await client.signal("unit", signal.SIGKILL)
        async with asyncio.timeout(10):
            while (status := (await client.list())[0]).pid == first.pid or not status.running:
                await asyncio.sleep(0.02)
        assert status.restarts == 1

    asyncio.run(scenario())
    ended = runtime.stop("unit", machine.init_socket)
    assert ended.exit_code == -signal.SIGTERM
    assert machine.run(["pgrep", "sleep"], check=False).stdout == ""


def test_killing_init_ends_the_machine(machine: Machine) -> None:
    runtime.call({"do": "start", "process": Process("s", ("sleep", "999")).to_json()}, machine.init_socket)
    record = ProcessRecord.of(machine.init_pid)
    sleeper = next(
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _command(path) == "sleep\x00999\x00"
    )
    os.kill(machine.init_pid, signal.SIGKILL)
    descriptor = os.pidfd_open(record.pid) if record.alive() else None
    if descriptor is not None:
        import select

        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
    assert not record.alive()
    assert _command(Path(f"/proc/{sleeper}")) == ""


def _command(path: Path) -> str:
    try:
        return (path / "cmdline").read_text()
    except OSError:
        return ""


def test_a_process_joins_another_ones_namespaces(machine: Machine) -> None:
    first = Process(
        "first", ("sleep", "77"), pidns=True, hostname="inner", mounts=(Mount("", "/srv", kind="tmpfs"),)
    )
    pid = asyncio.run(Runtime(machine.init_socket).start(first)).pid
    told = run(machine, "sh", "-c", "hostname; findmnt -n -o FSTYPE /srv; cat /proc/1/cmdline", enter=pid)
    assert told.stdout.split(b"\n") == [b"inner", b"tmpfs", b"sleep\x0077\x00"]
    with pytest.raises(RuntimeRefusal, match="No such file"):
        run(machine, "true", enter=pid + 1000)
