"""What DaemonSets, StatefulSets and Jobs decide, from the Pods there are."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.controllers.daemonset import daemon_on, outdated
from testbed.controllers.job import INDEX, Progress, backoff, run_of, shortage, verdict
from testbed.controllers.owner import revision_of
from testbed.controllers.placement import misfit
from testbed.controllers.statefulset import member, plan
from testbed.model.conditions import timestamp

TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def owner(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "x", "namespace": "default", "uid": "u"}
    return {"metadata": metadata, "spec": {"template": TEMPLATE, **spec}}


def state(pod: dict[str, Any], how: str) -> dict[str, Any]:
    """The Pod as `ready`, `new` (not ready), `leaving`, `old` (ready, of another template), `Failed`, …"""
    pod["metadata"] |= {"uid": how, "creationTimestamp": timestamp()}
    if how == "leaving":
        pod["metadata"]["deletionTimestamp"] = timestamp()
    if how.startswith("old"):
        pod["metadata"]["labels"]["controller-revision-hash"] = "another"
    ready = "False" if how in ("new", "old-new", "leaving") else "True"
    phase = how if how in ("Failed", "Succeeded") else "Running"
    pod["status"] = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
    return pod


@pytest.mark.parametrize(
    ("states", "replicas", "create", "delete"),
    [
        ([], 3, [0], []),
        (["new"], 3, [], []),
        (["ready"], 3, [1], []),
        (["ready", "ready", "ready"], 3, [], []),
        (["ready", "leaving"], 3, [], []),
        (["ready", "Failed", "ready"], 3, [], [1]),
        (["ready", "ready", "ready"], 1, [], [2]),
        (["ready", "ready", "leaving"], 1, [], []),
        (["old", "old", "old"], 3, [], [2]),
        (["old", "old", "new"], 3, [], []),
        (["old", "old", "ready"], 3, [], [1]),
        (["old-new", "old"], 2, [], [0]),
    ],
)
def test_a_stateful_set_goes_one_step_at_a_time(
    states: list[str], replicas: int, create: list[int], delete: list[int]
) -> None:
    made = owner(replicas=replicas)
    pods = [state(member(made, number), how) for number, how in enumerate(states)]
    assert plan(made, pods) == (create, [pods[number] for number in delete])


def test_a_parallel_stateful_set_does_not_wait() -> None:
    made = owner(replicas=3, podManagementPolicy="Parallel")
    assert plan(made, [state(member(made, 1), "new")]) == ([0, 2], [])


def test_an_update_stops_at_the_partition() -> None:
    made = owner(replicas=2, updateStrategy={"rollingUpdate": {"partition": 1}})
    pods = [state(member(made, 0), "old"), state(member(made, 1), "ready")]
    assert plan(made, pods) == ([], [])


def test_a_member_has_its_name_its_domain_and_its_claims() -> None:
    made = owner(serviceName="db", volumeClaimTemplates=[{"metadata": {"name": "data"}}])
    pod = member(made, 2)
    assert (pod["metadata"]["name"], pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (
        "x-2",
        "x-2",
        "db",
    )
    assert pod["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]
    assert pod["metadata"]["labels"]["app"] == "x"
    assert "volumes" not in TEMPLATE["spec"]


@pytest.mark.parametrize(
    ("states", "unavailable", "gone"),
    [
        (["ready", "ready", "ready"], 1, []),
        (["old", "old", "old"], 1, [0]),
        (["old", "old", "old"], "50%", [0, 1]),
        (["new", "old", "old"], 1, []),
        (["old-new", "old", "old"], 1, [0]),
    ],
)
def test_a_daemon_set_replaces_old_daemons_within_its_bounds(
    states: list[str], unavailable: int | str, gone: list[int]
) -> None:
    made = owner(updateStrategy={"rollingUpdate": {"maxUnavailable": unavailable}})
    pods = {f"node{n}": state(daemon_on(made, f"node{n}"), how) for n, how in enumerate(states)}
    assert outdated(made, pods, len(pods)) == [pods[f"node{number}"] for number in gone]


def test_a_daemon_goes_where_labels_and_taints_let_it_and_bears_a_sick_node() -> None:
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]
    sick = {"metadata": {"name": "n", "labels": {}}, "spec": {"taints": taints}}
    closed = {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}}
    assert misfit(daemon_on(owner(), "n"), sick) == ""
    assert "untolerated taint {mine" in misfit(daemon_on(owner(), "n"), closed)
    pod = daemon_on(owner(), "n")
    assert pod["spec"]["nodeName"] == "n"
    assert pod["metadata"]["labels"]["controller-revision-hash"] == revision_of(owner())


def job(**spec: Any) -> dict[str, Any]:
    return owner(**{"parallelism": 1, "completions": 1, "backoffLimit": 2, **spec})


def progress(made: dict[str, Any], *states: str) -> Progress:
    return Progress.of([state(run_of(made, number), how) for number, how in enumerate(states)])


@pytest.mark.parametrize(
    ("spec", "states", "missing", "surplus"),
    [
        ({}, [], 1, 0),
        ({}, ["new"], 0, 0),
        ({"completions": 5, "parallelism": 2}, ["Succeeded"], 2, 0),
        ({"completions": 5, "parallelism": 2}, ["Succeeded"] * 4, 1, 0),
        ({"completions": 5, "parallelism": 1}, ["new", "new"], 0, 1),
        ({"completions": None, "parallelism": 3}, ["new", "Succeeded"], 0, 0),
    ],
)
def test_a_job_runs_as_many_pods_as_it_still_needs(
    spec: dict[str, Any], states: list[str], missing: int, surplus: int
) -> None:
    made = job(**spec)
    create, delete = shortage(made, progress(made, *states))
    assert (len(create), len(delete)) == (missing, surplus)


def test_an_indexed_job_makes_the_indexes_that_have_not_succeeded() -> None:
    made = job(completions=4, parallelism=4, completionMode="Indexed")
    assert shortage(made, progress(made, "Succeeded", "Failed", "new"))[0] == [1, 3]
    pod = run_of(made, 3)
    assert pod["metadata"]["annotations"][INDEX] == "3"
    assert pod["spec"]["containers"][0]["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "3"}]


@pytest.mark.parametrize(
    ("spec", "states", "reason"),
    [
        ({}, [], ""),
        ({}, ["Failed", "Failed"], ""),
        ({}, ["Failed", "Failed", "Failed"], "BackoffLimitExceeded"),
        ({}, ["Failed", "Succeeded"], "CompletionsReached"),
        ({"completions": None}, ["new", "Succeeded"], ""),
        ({"completions": None}, ["Succeeded"], "CompletionsReached"),
    ],
)
def test_a_job_ends_when_enough_succeeded_or_too_many_failed(
    spec: dict[str, Any], states: list[str], reason: str
) -> None:
    made = job(**spec)
    found = verdict(made, progress(made, *states))
    assert (found[1] if found else "") == reason


def test_a_job_waits_longer_after_each_failure() -> None:
    made = job()
    assert backoff(progress(made, "Succeeded")) == 0
    assert 8 < backoff(progress(made, "Failed")) <= 10
    assert 18 < backoff(progress(made, "Failed", "Failed")) <= 20
