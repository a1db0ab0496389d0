"""Control groups of a machine, for real: who takes too much is held to its limits, and nothing is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.kernel import cgroup
from testbed.lab.machine import Blueprint, Machine, boot
from testbed.lab.state import State
from testbed.node import limits
from testbed.node.runtime import Finished, Process, Runtime

pytestmark = pytest.mark.needs("cgroup2")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    monkeypatch.setenv("TESTBED_STATE_DIR", str(tmp_path / "state"))
    state = State.create("limits-test")
    try:
        birth = boot(state, Blueprint("node01", [("node01", "172.30.0.11")]))
        birth.ready()
        birth.commit()
        yield state
    finally:
        state.destroy()
    assert not state.cgroup.exists()


def run(state: State, number: int, asked: dict[str, str], *argv: str, most_pids: int = 0) -> Finished:
    """A container's program on the machine, limited; as the machine's kubelet has it done."""
    machine = Machine("node01", state.machines()["node01"].pid)
    container = {"resources": {"limits": asked}}
    id = f"pod/uid/c/{number}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroup, "usable", lambda: True)
        patch.setattr(cgroup, "ROOT", state.cgroup / "node01")
        limits.confine(id, container, most_pids)
    process = Process("", argv, pidns=True, cgroup=str(limits.container_group(id)))
    return asyncio.run(Runtime(machine.init_socket).run(process, timeout=60))


def test_a_program_is_held_to_its_limits(state: State) -> None:
    here = state.cgroup / "node01" / "pods" / "uid"
    assert run(state, 0, {"memory": "16Mi"}, "tail", "/dev/zero").code == -9
    assert cgroup.oom_kills(here / "c-0") > 0
    assert run(state, 1, {"memory": "16Mi", "cpu": "100m"}, "true").code == 0
    assert cgroup.oom_kills(here / "c-1") == 0
    spin = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.monotonic())"
    run(state, 1, {"memory": "64Mi", "cpu": "100m"}, "python3", "-c", spin)
    stalled = dict(map(str.split, (here / "c-1" / "cpu.stat").read_text().splitlines()))
    assert int(stalled["nr_throttled"]) > 0
    forks = run(state, 2, {}, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done", most_pids=5)
    assert b"fork" in forks.stderr.lower()


def test_a_pod_that_is_gone_has_no_groups(state: State) -> None:
    run(state, 0, {"cpu": "1"}, "true")
    root = state.cgroup / "node01"
    assert (root / "pods/uid/c-0").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroup, "ROOT", root)
        limits.release("uid")
    assert not (root / "pods/uid").exists()
    assert os.path.exists(root)
