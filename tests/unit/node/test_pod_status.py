from __future__ import annotations

from typing import Any

import pytest

from testbed.node.process import Status
from testbed.node.status import Container, pod_status, same_conditions


def pod(policy: str = "Always") -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"restartPolicy": policy}}


def container(code: int | None = None, ready: bool = False) -> Container:
    process = Status("pod/u/c/0", 7, 1000.0, code, None if code is None else 1001.0)
    return Container({"name": "c", "image": "i"}, process=process, ready=ready, up=ready)


def status(policy: str, *containers: Container) -> dict[str, Any]:
    return pod_status(pod(policy), containers, ["172.30.0.11"], ["10.244.1.2"], "2025-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Always", [None], "Running"),
        ("Always", [0], "Running"),
        ("Never", [0, 0], "Succeeded"),
        ("Never", [0, 1], "Failed"),
        ("Never", [0, None], "Running"),
        ("OnFailure", [1], "Running"),
        ("OnFailure", [0], "Succeeded"),
    ],
)
def test_the_phase(policy: str, codes: list[int | None], phase: str) -> None:
    assert status(policy, *(container(code) for code in codes))["phase"] == phase


def test_a_pod_is_pending_until_a_container_was_started() -> None:
    assert status("Always", Container({"name": "c"}))["phase"] == "Pending"


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    def ready(*containers: Container) -> str:
        conditions = status("Always", *containers)["conditions"]
        return next(str(each["status"]) for each in conditions if each["type"] == "Ready")

    assert ready(container(ready=True)) == "True"
    assert ready(container(ready=True), container()) == "False"


def test_a_condition_that_someone_else_changed_is_noticed() -> None:
    wanted = status("Always", container(ready=True))
    more = [{"type": "Mine", "status": "True"}, *wanted["conditions"]]
    assert same_conditions(wanted, {"status": {"conditions": more}})
    lost = [{**each, "status": "False"} if each["type"] == "Ready" else each for each in more]
    assert not same_conditions(wanted, {"status": {"conditions": lost}})


def test_a_signal_is_told_as_docker_tells_it() -> None:
    (told,) = status("Never", container(-9))["containerStatuses"]
    assert told["state"]["terminated"]["exitCode"] == 137
    assert told["state"]["terminated"]["signal"] == 9


def test_a_container_that_waits_for_its_restart_says_why() -> None:
    each = container(1)
    each.restart_at, each.waiting = 12.0, ("CrashLoopBackOff", "back-off 10s")
    (told,) = status("Always", each)["containerStatuses"]
    assert told["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert told["lastState"]["terminated"]["exitCode"] == 1
