from __future__ import annotations

from typing import Any

from testbed.controllers.slices import MOST_ENDPOINTS, Group, fit

METADATA = {"generateName": "svc-", "namespace": "ns", "labels": {"a": "b"}}
PORTS = [{"name": "", "port": 80, "protocol": "TCP"}]


def endpoint(number: int, ready: bool = True) -> dict[str, Any]:
    return {
        "addresses": [f"10.244.{number // 250}.{number % 250}"],
        "conditions": {"ready": ready},
        "targetRef": {"uid": f"u{number}"},
    }


def held(
    name: str, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    metadata = {**METADATA, "name": name}
    return {"metadata": metadata, "addressType": "IPv4", "ports": ports or PORTS, "endpoints": endpoints}


def test_a_service_without_endpoints_gets_one_empty_slice_once() -> None:
    changes = fit([], [Group("IPv4", [], [])], METADATA)
    assert [each["endpoints"] for each in changes.create] == [[]]
    again = fit([{**changes.create[0], "ports": None}], [Group("IPv4", [], [])], METADATA)
    assert (again.create, again.update, again.delete) == ([], [], [])


def test_many_endpoints_are_spread_over_slices() -> None:
    changes = fit([], [Group("IPv4", PORTS, [endpoint(n) for n in range(250)])], METADATA)
    assert [len(each["endpoints"]) for each in changes.create] == [MOST_ENDPOINTS, MOST_ENDPOINTS, 50]


def test_one_changed_endpoint_touches_one_slice() -> None:
    first, second = [endpoint(n) for n in range(3)], [endpoint(n) for n in range(3, 6)]
    wanted = [*first, endpoint(3, ready=False), *second[1:]]
    changes = fit([held("one", first), held("two", second)], [Group("IPv4", PORTS, wanted)], METADATA)
    assert [each["metadata"]["name"] for each in changes.update] == ["two"]
    assert (changes.create, changes.delete) == ([], [])


def test_a_new_endpoint_goes_where_there_is_room() -> None:
    full, rest = [endpoint(n) for n in range(100)], [endpoint(100)]
    wanted = [*full, *rest, endpoint(101)]
    changes = fit([held("full", full), held("rest", rest)], [Group("IPv4", PORTS, wanted)], METADATA)
    assert [(each["metadata"]["name"], len(each["endpoints"])) for each in changes.update] == [("rest", 2)]


def test_other_ports_are_another_slice_and_the_old_one_goes() -> None:
    other = [{"name": "", "port": 81, "protocol": "TCP"}]
    changes = fit([held("old", [endpoint(1)])], [Group("IPv4", other, [endpoint(1)])], METADATA)
    assert [each["metadata"]["name"] for each in changes.delete] == ["old"]
    assert [each["ports"] for each in changes.create] == [other]


def test_nothing_changed_writes_nothing() -> None:
    endpoints = [endpoint(1), endpoint(2)]
    changes = fit([held("one", endpoints)], [Group("IPv4", PORTS, endpoints[::-1])], METADATA)
    assert (changes.create, changes.update, changes.delete) == ([], [], [])
