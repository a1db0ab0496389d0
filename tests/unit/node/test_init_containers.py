from __future__ import annotations

from typing import Any

import pytest

from testbed.api.initstate import init_status
from testbed.node.process import Status
from testbed.node.status import Container, containers_of, initializing, pod_status, will_restart

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {
        "initContainers": [{"name": "one"}, {"name": "side", "restartPolicy": "Always"}, {"name": "two"}],
        "containers": [{"name": "main"}],
    },
}


def ended(code: int) -> Status:
    return Status("i", 1, 1.0, code, 2.0)


RUNNING = Status("i", 1, 1.0)


def through(*processes: Status | None) -> list[Container]:
    containers = containers_of(POD)
    for container, process in zip(containers, processes, strict=False):
        container.process = process
        container.up = container.sidecar and process is not None
    return containers


@pytest.mark.parametrize(
    ("processes", "waits_for", "phase", "shown"),
    [
        ((), "one", "Pending", "Init:0/3"),
        ((RUNNING,), "one", "Pending", "Init:0/3"),
        ((ended(0),), "side", "Pending", "Init:1/3"),
        ((ended(0), RUNNING), "two", "Pending", "Init:2/3"),
        ((ended(0), RUNNING, ended(3)), "two", "Pending", "Init:Error"),
        ((ended(0), RUNNING, ended(0)), "", "Pending", ""),
        ((ended(0), RUNNING, ended(0), RUNNING), "", "Running", ""),
    ],
)
def test_init_containers_come_one_after_the_other_and_sidecars_stay(
    processes: tuple[Status, ...], waits_for: str, phase: str, shown: str
) -> None:
    containers = through(*processes)
    held_up = initializing(containers)
    status = pod_status(POD, containers, ["h"], ["i"], "t")
    assert (held_up.name if held_up else "", status["phase"]) == (waits_for, phase)
    assert [each["name"] for each in status["initContainerStatuses"]] == ["one", "side", "two"]
    initialized = next(each for each in status["conditions"] if each["type"] == "Initialized")
    assert initialized["status"] == str(not waits_for)
    assert init_status({**POD, "status": status}) == shown


def test_a_failed_init_container_is_the_end_where_nothing_is_restarted() -> None:
    never = {**POD, "spec": {**POD["spec"], "restartPolicy": "Never"}}
    containers = through(ended(1))
    assert pod_status(never, containers, ["h"], ["i"], "t")["phase"] == "Failed"
    assert not will_restart(never, containers[0])
    assert will_restart(POD, containers[0])
    assert not will_restart(POD, through(ended(0))[0])
