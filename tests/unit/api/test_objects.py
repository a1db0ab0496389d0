"""The life of objects: what a write may change, what it fills in, and when a deletion is done."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from testbed.api import table
from testbed.api.lifecycle import DeleteOptions, bind
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID, KINDS
from testbed.api.status import StatusError

Object = dict[str, Any]
PODS, DEPLOYMENTS, SERVICES = BY_ID["pods"], BY_ID["deployments.apps"], BY_ID["services"]
CONFIG_MAPS, NAMESPACES = BY_ID["configmaps"], BY_ID["namespaces"]


def pod(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def deployment(name: str) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


@pytest.fixture
def play(opened: Any) -> Callable[[Callable[[Objects], Awaitable[None]]], None]:
    """Run a scenario with objects of its own."""

    def run(scenario: Callable[[Objects], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened() as objects:
                await scenario(objects)

        asyncio.run(main())

    return run


async def refused(what: Awaitable[object], code: int, told: str = "") -> StatusError:
    with pytest.raises(StatusError, match=told) as refusal:
        await what
    assert refusal.value.code == code
    return refusal.value


def test_a_new_object_gets_its_identity_and_defaults(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        made = json.loads(await objects.create(DEPLOYMENTS, "default", deployment("d")))
        assert made["kind"] == "Deployment"
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["uid"]
        assert made["metadata"]["resourceVersion"] == str(objects.store.revision)
        assert made["spec"]["replicas"] == 1
        assert made["spec"]["template"]["spec"]["restartPolicy"] == "Always"

    play(scenario)


def test_a_name_is_made_from_generate_name(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        names = set()
        for _ in range(20):
            body = pod("") | {"metadata": {"generateName": "web-"}}
            names.add(json.loads(await objects.create(PODS, "default", body))["metadata"]["name"])
        assert len(names) == 20
        assert all(name.startswith("web-") and len(name) == 9 for name in names)

    play(scenario)


@pytest.mark.feature("C2")
def test_a_write_based_on_an_old_version_conflicts(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        first = json.loads(await objects.create(CONFIG_MAPS, "default", {"metadata": {"name": "c"}}))
        await objects.update(CONFIG_MAPS, ("default", "c"), lambda old: old | {"data": {"a": "1"}})
        stale = first | {"data": {"a": "2"}}
        await refused(
            objects.update(CONFIG_MAPS, ("default", "c"), lambda old: stale), 409, "has been modified"
        )
        other = {"metadata": {"name": "c", "uid": "other"}}
        await refused(objects.update(CONFIG_MAPS, ("default", "c"), lambda old: other), 409, "UID")

    play(scenario)


def test_racing_writes_without_a_version_all_count(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        await objects.create(CONFIG_MAPS, "default", {"metadata": {"name": "c"}, "data": {}})

        def adding(key: str) -> Callable[[Object], Object]:
            return lambda old: old | {"data": {**old["data"], key: "x"}}

        keys = [f"k{i}" for i in range(50)]
        await asyncio.gather(*(objects.update(CONFIG_MAPS, ("default", "c"), adding(key)) for key in keys))
        stored = objects.find(CONFIG_MAPS, ("default", "c")).decode()
        assert sorted(stored["data"]) == sorted(keys)

    play(scenario)


def test_a_change_that_changes_nothing_is_no_revision(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        await objects.create(DEPLOYMENTS, "default", deployment("d"))
        before = objects.store.revision
        await objects.update(DEPLOYMENTS, ("default", "d"), lambda old: old)
        assert objects.store.revision == before

    play(scenario)


@pytest.mark.feature("C2")
def test_spec_and_status_are_written_apart(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        key = ("default", "d")
        await objects.create(DEPLOYMENTS, "default", deployment("d") | {"status": {"replicas": 9}})
        assert objects.find(DEPLOYMENTS, key).decode()["status"] == {}

        def both(old: Object) -> Object:
            return old | {"spec": {**old["spec"], "replicas": 7}, "status": {"replicas": 3}}

        await objects.update(DEPLOYMENTS, key, both, part="status")
        stored = objects.find(DEPLOYMENTS, key).decode()
        assert (stored["spec"]["replicas"], stored["status"]) == (1, {"replicas": 3})
        assert stored["metadata"]["generation"] == 1
        await objects.update(DEPLOYMENTS, key, lambda old: both(old) | {"status": {}})
        stored = objects.find(DEPLOYMENTS, key).decode()
        assert (stored["spec"]["replicas"], stored["status"]) == (7, {"replicas": 3})
        assert stored["metadata"]["generation"] == 2

    play(scenario)


def test_a_pod_is_bound_once(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        await objects.create(PODS, "default", pod("p"))
        binding = bind({"target": {"kind": "Node", "name": "node01"}})
        await objects.update(PODS, ("default", "p"), binding, part="binding")
        stored = objects.find(PODS, ("default", "p")).decode()
        assert stored["spec"]["nodeName"] == "node01"
        assert [each["type"] for each in stored["status"]["conditions"]] == ["PodScheduled"]
        await refused(
            objects.update(PODS, ("default", "p"), binding, part="binding"), 409, "already assigned to node"
        )

    play(scenario)


@pytest.mark.parametrize(
    ("spec", "phase", "grace", "stays"),
    [
        ({}, "Pending", None, False),
        ({"nodeName": "n"}, "Running", None, True),
        ({"nodeName": "n"}, "Running", 5, True),
        ({"nodeName": "n"}, "Running", 0, False),
        ({"nodeName": "n"}, "Succeeded", None, False),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 0}, "Running", None, False),
    ],
)
def test_grace_of_a_pod(play: Any, spec: Object, phase: str, grace: int | None, stays: bool) -> None:
    async def scenario(objects: Objects) -> None:
        key = ("default", "p")
        await objects.create(PODS, "default", pod("p", **spec))
        await objects.update(PODS, key, lambda old: old | {"status": {"phase": phase}}, part="status")
        await objects.delete(PODS, key, DeleteOptions(grace))
        assert bool(objects.store.get("pods", key)) is stays
        if stays:
            held = objects.find(PODS, key).decode()["metadata"]
            assert held["deletionGracePeriodSeconds"] == (grace or 30)
            revision = objects.store.revision
            await objects.delete(PODS, key, DeleteOptions())
            assert objects.store.revision == revision
            await objects.delete(PODS, key, DeleteOptions(0))
            assert objects.store.get("pods", key) is None

    play(scenario)


@pytest.mark.feature("C2")
def test_finalizers_hold_an_object_until_the_last_is_taken_off(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        key = ("default", "c")
        body = {"metadata": {"name": "c", "finalizers": ["x/a", "x/b"]}}
        await objects.create(CONFIG_MAPS, "default", body)
        held = json.loads(await objects.delete(CONFIG_MAPS, key, DeleteOptions()))
        assert held["metadata"]["finalizers"] == ["x/a", "x/b"]

        def with_finalizers(*names: str) -> Callable[[Object], Object]:
            return lambda old: old | {"metadata": {**old["metadata"], "finalizers": list(names)}}

        await objects.update(CONFIG_MAPS, key, with_finalizers("x/b"))
        assert objects.find(CONFIG_MAPS, key).decode()["metadata"]["deletionTimestamp"]
        await objects.update(CONFIG_MAPS, key, with_finalizers())
        assert objects.store.get(CONFIG_MAPS.id, key) is None

    play(scenario)


def test_a_namespace_takes_nothing_new_and_goes_when_finalized(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        await refused(objects.create(PODS, "nowhere", pod("p")), 404, 'namespaces "nowhere" not found')
        await objects.create(NAMESPACES, "", {"metadata": {"name": "n"}})
        await objects.delete(NAMESPACES, ("", "n"), DeleteOptions())
        assert objects.find(NAMESPACES, ("", "n")).decode()["status"]["phase"] == "Terminating"
        await refused(objects.create(PODS, "n", pod("p")), 403, "it is being terminated")
        await objects.update(NAMESPACES, ("", "n"), lambda old: old | {"spec": {}}, part="finalize")
        assert objects.store.get("namespaces", ("", "n")) is None

    play(scenario)


@pytest.mark.feature("C2")
def test_orphans_outlive_their_owner(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        owner = json.loads(await objects.create(DEPLOYMENTS, "default", deployment("d")))
        reference = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "d",
            "uid": owner["metadata"]["uid"],
        }
        owned = pod("p")
        owned["metadata"]["ownerReferences"] = [reference]
        await objects.create(PODS, "default", owned)
        await objects.delete(DEPLOYMENTS, ("default", "d"), DeleteOptions(propagation="Orphan"))
        await objects.store.settled()
        assert objects.find(PODS, ("default", "p")).decode()["metadata"]["ownerReferences"] == []

    play(scenario)


def test_a_dry_run_leaves_no_trace(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "clusterIP": "10.96.0.50"}}
        revision = objects.store.revision
        await objects.create(SERVICES, "default", json.loads(json.dumps(service)), dry_run=True)
        assert objects.store.revision == revision
        await objects.create(SERVICES, "default", service)
        await objects.delete(SERVICES, ("default", "s"), DeleteOptions(dry_run=True))
        assert objects.store.get("services", ("default", "s"))

    play(scenario)


def test_an_update_keeps_what_was_allocated_and_may_not_change_it(play: Any) -> None:
    async def scenario(objects: Objects) -> None:
        key, ports = ("default", "s"), [{"port": 80}]
        body = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
        made = json.loads(await objects.create(SERVICES, "default", json.loads(json.dumps(body))))
        kept = json.loads(await objects.update(SERVICES, key, lambda old: body))
        assert kept["spec"]["clusterIP"] == made["spec"]["clusterIP"]
        assert kept["spec"]["ports"] == made["spec"]["ports"]

        def moved(old: Object) -> Object:
            return old | {"spec": {**old["spec"], "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}}

        await refused(objects.update(SERVICES, key, moved), 422, "may not change once set")

    play(scenario)


def test_allocation_survives_a_restart(opened: Any) -> None:
    async def main() -> None:
        spec = {"type": "NodePort", "ports": [{"port": 80}]}
        async with opened() as objects:
            made = json.loads(
                await objects.create(SERVICES, "default", {"metadata": {"name": "a"}, "spec": spec})
            )
        async with opened() as objects:
            thief = {"clusterIP": made["spec"]["clusterIP"], "ports": [{"port": 80}]}
            body = {"metadata": {"name": "b"}, "spec": thief}
            await refused(objects.create(SERVICES, "default", body), 422, "already allocated")

    asyncio.run(main())


FIELDS = ("spec", "status", "metadata", "subsets", "endpoints", "ports", "data", "type", "involvedObject")
JUNK = (
    "text",
    7,
    [1],
    [[]],
    {"containers": 3, "template": []},
    {"template": {"spec": {"containers": ["x"]}}},
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_objects_of_the_wrong_shape_are_refused_not_a_crash(play: Any, kind: Any) -> None:
    """Whatever a field holds, the answer is an object or a refusal below 500."""

    async def scenario(objects: Objects) -> None:
        namespace = "default" if kind.resource.namespaced else ""
        codes = set()
        for field, junk in itertools.product(FIELDS, JUNK):
            body = {"metadata": {"name": "x"}, field: copy.deepcopy(junk)}
            try:
                stored = json.loads(await objects.create(kind, namespace, body, dry_run=True))
                table.table(kind, [stored], {})
            except StatusError as refusal:
                codes.add(refusal.code)
        assert codes <= {400, 422}
        assert codes

    play(scenario)
