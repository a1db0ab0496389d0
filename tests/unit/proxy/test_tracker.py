"""From API objects to Snapshots: policies, readiness, half-built objects, and the words of the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from testbed.model.service import Endpoint, Protocol, Refusal, ServicePort
from testbed.proxy.tracker import Tracker

Object = dict[str, Any]
HERE, THERE = "node01", "node02"


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
    return {
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports, **spec},
    }


def endpoint(ip: str, node: str, **conditions: bool) -> Object:
    return {"addresses": [ip], "nodeName": node, "conditions": conditions}


def piece(*endpoints: Object, name: str = "web-1", **fields: Any) -> Object:
    return {
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }


def only(tracker: Tracker) -> ServicePort:
    (one,) = tracker.snapshot().services.values()
    return one


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(HERE)


def ips(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [one.ip for one in endpoints]


READY: dict[str, bool] = {}
STARTING = {"ready": False, "serving": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
LEFT = {"ready": False, "serving": False, "terminating": True}

ENDPOINTS = [
    # conditions of .1 here and .2 there → cluster, local, refusal of Local
    (READY, READY, ["10.0.0.1", "10.0.0.2"], ["10.0.0.1"], Refusal.DROP),
    (STARTING, READY, ["10.0.0.2"], [], Refusal.DROP),
    (LEAVING, READY, ["10.0.0.2"], ["10.0.0.1"], Refusal.DROP),
    (LEAVING, LEAVING, ["10.0.0.1", "10.0.0.2"], ["10.0.0.1"], Refusal.DROP),
    (LEFT, LEAVING, ["10.0.0.2"], [], Refusal.DROP),
    (LEFT, STARTING, [], [], Refusal.REJECT),
]


@pytest.mark.parametrize(("here", "there", "cluster", "local", "refusal"), ENDPOINTS)
@pytest.mark.feature("B3", "B5")
def test_readiness_and_policy(
    tracker: Tracker,
    here: dict[str, bool],
    there: dict[str, bool],
    cluster: list[str],
    local: list[str],
    refusal: Refusal,
) -> None:
    tracker.service(None, service())
    tracker.endpoint_slice(
        None, piece(endpoint("10.0.0.1", HERE, **here), endpoint("10.0.0.2", THERE, **there))
    )
    one = only(tracker)
    assert ips(one.cluster.endpoints) == cluster
    assert ips(one.local.endpoints) == local
    assert one.local.refusal is refusal


def test_policies_choose_the_route(tracker: Tracker) -> None:
    tracker.service(None, service(externalTrafficPolicy="Local"))
    tracker.endpoint_slice(None, piece(endpoint("10.0.0.2", THERE)))
    one = only(tracker)
    assert one.internal is one.cluster
    assert one.external is one.local
    tracker.service(None, service(internalTrafficPolicy="Local"))
    one = only(tracker)
    assert one.internal is one.local
    assert one.external is one.cluster


def test_slices_add_up_and_duplicates_count_once(tracker: Tracker) -> None:
    tracker.service(None, service())
    first = piece(endpoint("10.0.0.1", HERE), endpoint("10.0.0.2", THERE))
    second = piece(endpoint("10.0.0.2", THERE), endpoint("10.0.0.3", THERE), name="web-2")
    tracker.endpoint_slice(None, first)
    tracker.endpoint_slice(None, second)
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    tracker.endpoint_slice(second, None)
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1", "10.0.0.2"]


def test_a_slice_before_its_service(tracker: Tracker) -> None:
    tracker.endpoint_slice(None, piece(endpoint("10.0.0.1", HERE)))
    assert not tracker.snapshot().services
    tracker.service(None, service())
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]


def test_untouched_services_are_the_same_objects(tracker: Tracker) -> None:
    other = service(clusterIP="10.96.0.8")
    other["metadata"]["name"] = "other"
    tracker.service(None, service())
    tracker.service(None, other)
    before = tracker.snapshot().services
    tracker.endpoint_slice(None, piece(endpoint("10.0.0.1", HERE)))
    after = tracker.snapshot().services
    assert after[("default/other:http", "TCP")] is before[("default/other:http", "TCP")]
    assert after[("default/web:http", "TCP")] is not before[("default/web:http", "TCP")]


@pytest.mark.feature("B10")
def test_hints_count_when_every_endpoint_has_one(tracker: Tracker) -> None:
    near = {**endpoint("10.0.0.1", HERE), "hints": {"forZones": [{"name": "a"}]}}
    far = {**endpoint("10.0.0.2", THERE), "hints": {"forZones": [{"name": "b"}]}}
    tracker.service(None, service())
    tracker.endpoint_slice(None, piece(near, far))
    assert len(only(tracker).cluster.endpoints) == 2
    tracker.own_node(None, {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}})
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    tracker.endpoint_slice(None, piece(near, endpoint("10.0.0.2", THERE)))
    assert len(only(tracker).cluster.endpoints) == 2


def hinted(ip: str, node: str, **conditions: bool) -> dict[str, Any]:
    """An endpoint for the clients of its own node, and else of zone a."""
    hints = {"forZones": [{"name": "a"}], "forNodes": [{"name": node}]}
    return {**endpoint(ip, node), "hints": hints, "conditions": {"ready": True, **conditions}}


@pytest.mark.feature("B10")
def test_hints_for_the_node_come_before_those_for_its_zone(tracker: Tracker) -> None:
    here, there = hinted("10.0.0.1", HERE), hinted("10.0.0.2", THERE)
    tracker.own_node(None, {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}})
    tracker.service(None, service())
    tracker.endpoint_slice(None, piece(here, there))
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    tracker.endpoint_slice(None, piece(there, hinted("10.0.0.3", "node03")))
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.2", "10.0.0.3"], "none here: the zone's"
    ending = {"ready": False, "serving": True, "terminating": True}
    tracker.endpoint_slice(
        None, piece(hinted("10.0.0.1", HERE, **ending), hinted("10.0.0.2", THERE, **ending))
    )
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1", "10.0.0.2"], "hints are for ready ones"


NOTHING = [
    service(clusterIP="None"),
    service(type="ExternalName", clusterIP=""),
    service(clusterIP=None),
    service(ports=None),
    {
        **service(),
        "metadata": {**service()["metadata"], "labels": {"service.kubernetes.io/service-proxy-name": "x"}},
    },
    {"metadata": {"namespace": "default", "name": "web"}},
]


@pytest.mark.parametrize("obj", NOTHING)
@pytest.mark.feature("B12", "A7", "A9")
def test_services_that_have_no_rules(tracker: Tracker, obj: Object) -> None:
    tracker.service(None, obj)
    assert not tracker.snapshot().services


MALFORMED = [
    (service(clusterIP="ten"), "'ten' is not an address"),
    (service(ports=[{"port": 70000}]), "spec.ports.port 70000 is not a port number"),
    (service(ports=[{"port": 1, "protocol": "ICMP"}]), "protocol 'ICMP' is none of TCP, UDP, SCTP"),
    (service(ports=["80"]), "'str' object has no attribute 'get'"),
    (service(externalIPs=["::x"]), "'::x' is not an address"),
    (service(loadBalancerSourceRanges=["1.2.3.4/99"]), "'1.2.3.4/99' is not a network"),
]


@pytest.mark.parametrize(("obj", "why"), MALFORMED)
def test_malformed_services_are_named_and_passed_over(
    tracker: Tracker, caplog: pytest.LogCaptureFixture, obj: Object, why: str
) -> None:
    good = service(clusterIP="10.96.0.9")
    good["metadata"]["name"] = "good"
    tracker.service(None, good)
    tracker.service(None, obj)
    assert list(tracker.snapshot().services) == [("default/good:http", "TCP")]
    assert "Ignoring Service default/web" in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize("endpoints", [[{"addresses": []}], [{"addresses": ["fd00::1"]}], ["x"], [None]])
def test_malformed_slices_are_named_and_passed_over(
    tracker: Tracker, caplog: pytest.LogCaptureFixture, endpoints: list[Any]
) -> None:
    tracker.service(None, service())
    tracker.endpoint_slice(None, piece(endpoint("10.0.0.1", HERE)))
    tracker.endpoint_slice(None, piece(*endpoints, name="web-2"))
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    assert "Ignoring EndpointSlice default/web-2" in caplog.text


@pytest.mark.feature("A21")
def test_log_reads_like_kube_proxys(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tracker.service(None, service())
    tracker.service(service(), service(sessionAffinity="ClientIP"))
    tracker.service(service(), service(sessionAffinity="ClientIP"))
    tracker.service(service(), None)
    assert caplog.messages == [
        'Adding new service port "default/web:http" at 10.96.0.7:80/TCP',
        'Updating existing service port "default/web:http" at 10.96.0.7:80',
        'Removing service port "default/web:http"',
    ]


def test_fields(tracker: Tracker) -> None:
    spec = service(
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        externalIPs=["198.51.100.1"],
        loadBalancerSourceRanges=["203.0.113.0/24"],
        ports=[{"port": 53, "nodePort": 30053, "protocol": "UDP"}],
    )
    spec["status"] = {
        "loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]}
    }
    tracker.service(None, spec)
    one = only(tracker)
    assert (one.name, one.protocol, one.port, one.node_port) == ("default/web", Protocol.UDP, 53, 30053)
    assert (one.affinity_seconds, one.external_ips) == (60, ("198.51.100.1",))
    assert (one.load_balancer_ips, one.source_ranges) == (("203.0.113.1",), ("203.0.113.0/24",))


def test_the_node_tells_its_own_address(tracker: Tracker) -> None:
    """Which load balancers it may call itself depends on it: a change is one to sync."""
    woken: list[str] = []
    tracker.on_change = lambda: woken.append("")
    given = [
        ("Hostname", "a"),
        ("ExternalIP", "192.0.2.1"),
        ("InternalIP", "fd00::1"),
        ("InternalIP", "172.30.0.11"),
    ]
    node = {"metadata": {}, "status": {"addresses": [{"type": kind, "address": ip} for kind, ip in given]}}
    for _ in range(2):
        tracker.own_node(None, node)
    assert (tracker.snapshot().node_ip, len(woken)) == ("172.30.0.11", 1)
    tracker.own_node(
        node, {"metadata": {}, "status": {"addresses": [{"type": "InternalIP", "address": "?"}]}}
    )
    assert tracker.snapshot().node_ip == "", "what makes no sense counts as absent"
