from __future__ import annotations

from typing import Any

import pytest

from testbed.controllers import backends
from testbed.controllers.mirroring import mirrored


def pod(
    name: str, ip: str = "10.244.1.2", ready: bool = True, leaving: bool = False, **spec: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "labels": {"app": "a"}}
    if leaving:
        metadata["deletionTimestamp"] = "2025-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    ports = spec.pop("ports", [{"name": "web", "containerPort": 8080}])
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node01", "containers": [{"name": "c", "ports": ports}], **spec},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running", "conditions": conditions},
    }


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": "web", "protocol": "TCP"}]
    return {
        "metadata": {"name": "svc", "namespace": "ns", "uid": "s"},
        "spec": {"selector": {"app": "a"}, "ports": ports, **spec},
    }


@pytest.mark.feature("A12")
def test_a_named_target_port_is_resolved_for_each_pod() -> None:
    other = pod("b", ports=[{"name": "web", "containerPort": 9090}])
    groups = backends.by_ports(service(), [pod("a"), other])
    assert [(ports[0]["port"], len(members)) for ports, members in groups] == [(8080, 1), (9090, 1)]


def test_a_named_port_of_another_protocol_is_not_it() -> None:
    udp = pod("a", ports=[{"name": "web", "containerPort": 53, "protocol": "UDP"}])
    assert backends.ports(service(), udp) == []
    assert backends.by_ports(service(), [udp]) == []


@pytest.mark.feature("B5")
def test_conditions_tell_ready_serving_and_terminating_apart() -> None:
    def conditions(of: dict[str, Any], **spec: Any) -> tuple[bool, bool, bool]:
        made = backends.endpoint(service(**spec), of, "IPv4", {})["conditions"]
        return made["ready"], made["serving"], made["terminating"]

    assert conditions(pod("a")) == (True, True, False)
    assert conditions(pod("a", ready=False)) == (False, False, False)
    assert conditions(pod("a", leaving=True)) == (False, True, True)
    assert conditions(pod("a", ready=False), publishNotReadyAddresses=True) == (True, True, False)


@pytest.mark.feature("B10")
@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("", None),
        ("PreferClose", {"forZones": [{"name": "zone-a"}]}),
        ("PreferSameZone", {"forZones": [{"name": "zone-a"}]}),
        ("PreferSameNode", {"forZones": [{"name": "zone-a"}], "forNodes": [{"name": "node01"}]}),
    ],
)
def test_hints_say_who_should_use_an_endpoint(distribution: str, expected: Any) -> None:
    made = backends.endpoint(
        service(trafficDistribution=distribution), pod("a"), "IPv4", {"node01": "zone-a"}
    )
    assert made.get("hints") == expected


def test_an_endpoint_says_where_and_who() -> None:
    made = backends.endpoint(service(), pod("a"), "IPv4", {"node01": "zone-a"})
    assert (made["addresses"], made["nodeName"], made["zone"]) == (["10.244.1.2"], "node01", "zone-a")
    assert made["targetRef"] == {"kind": "Pod", "namespace": "ns", "name": "a", "uid": "uid-a"}


def test_subsets_list_unready_pods_apart_and_leave_out_those_that_go() -> None:
    pods = [pod("a"), pod("b", "10.244.1.3", ready=False), pod("c", "10.244.1.4", leaving=True)]
    (subset,) = backends.subsets(service(), pods)
    assert [each["ip"] for each in subset["addresses"]] == ["10.244.1.2"]
    assert [each["ip"] for each in subset["notReadyAddresses"]] == ["10.244.1.3"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_finished_pods_and_pods_without_an_address_do_not_serve() -> None:
    done = pod("a")
    done["status"]["phase"] = "Succeeded"
    assert backends.may_serve(pod("a"))
    assert not backends.may_serve(done)
    assert not backends.may_serve(pod("a", ip=""))


@pytest.mark.feature("A10")
def test_hand_written_endpoints_are_mirrored_with_their_readiness() -> None:
    subset = {
        "addresses": [{"ip": "192.0.2.1"}],
        "notReadyAddresses": [{"ip": "192.0.2.2"}],
        "ports": [{"port": 5432}],
    }
    (group,) = mirrored({"subsets": [subset]})
    assert group.ports == [{"name": "", "protocol": "TCP", "port": 5432}]
    assert [(each["addresses"], each["conditions"]["ready"]) for each in group.endpoints] == [
        (["192.0.2.1"], True),
        (["192.0.2.2"], False),
    ]
