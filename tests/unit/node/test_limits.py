"""Limits of containers, as control groups are told them and as a Pod's status tells what came of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.kernel import cgroup
from testbed.node import limits
from testbed.node.launch import record_end
from testbed.node.process import Status
from testbed.node.status import Container

ID = "pod/uid-1/c/0"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {}),
        ({"cpu": "250m"}, {"cpu.max": "25000 100000"}),
        ({"cpu": "2"}, {"cpu.max": "200000 100000"}),
        ({"cpu": "1m"}, {"cpu.max": "1000 100000"}),
        ({"memory": "64Mi"}, {"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1"}),
    ],
)
def test_what_a_control_group_is_told(asked: dict[str, str], told: dict[str, str]) -> None:
    assert limits.limits_of({"resources": {"limits": asked}}) == told


def test_without_control_groups_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    assert limits.confine(ID, {"resources": {"limits": {"memory": "1Mi"}}}, 10) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kills", "reason"), [(0, "Error"), (3, "OOMKilled")])
def test_who_ran_out_of_memory_is_said_to_have(
    kills: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    group = limits.container_group(ID)
    group.mkdir(parents=True)
    (group / "memory.events").write_text(f"low 0\noom {kills}\noom_kill {kills}\n")
    pod = {"metadata": {"name": "p", "namespace": "default", "uid": "uid-1"}}
    node: Any = SimpleNamespace(sandboxes=SimpleNamespace(directory=lambda uid: tmp_path / uid))
    ended = Container({"name": "c"}, process=Status(ID, 7, 0.0, exit_code=-9, finished=1.0))
    record_end(node, pod, ended)
    told = ended.state()["terminated"]
    assert (told["reason"], told["exitCode"]) == (reason, 137)
