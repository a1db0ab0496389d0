"""Objects that are half-built, contradictory or enormous: the rest goes on; the log says which and why."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from test_tracker import HERE, THERE, endpoint, ips, only, piece, service

from testbed.proxy.objects import HEADLESS, PROXY_NAME
from testbed.proxy.tracker import Tracker

Object = dict[str, Any]


def named(name: str, **spec: Any) -> Object:
    made = service(**spec)
    return {**made, "metadata": {"namespace": "default", "name": name}}


def labelled(obj: Object, label: str) -> Object:
    labels = {**(obj["metadata"].get("labels") or {}), label: ""}
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(HERE)


@pytest.mark.parametrize("label", [PROXY_NAME, HEADLESS])
@pytest.mark.feature("B12")
def test_what_is_another_proxys_comes_and_goes_with_its_label(tracker: Tracker, label: str) -> None:
    mine, offered = service(), piece(endpoint("10.0.0.1", HERE))
    tracker.service(None, mine)
    tracker.endpoint_slice(None, offered)
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    tracker.service(mine, labelled(mine, label))
    assert not tracker.snapshot().services
    tracker.service(labelled(mine, label), mine)
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    tracker.endpoint_slice(offered, labelled(offered, label))
    assert ips(only(tracker).cluster.endpoints) == []


@pytest.mark.parametrize(("ports", "endpoints"), [(1000, 10), (1, 1000), (100, 100)])
def test_enormous_services(tracker: Tracker, ports: int, endpoints: int) -> None:
    """Ten thousand pairs of port and endpoint; what comes beside them does not do them anew."""
    wanted = [{"name": f"p{n}", "port": n + 1} for n in range(ports)]
    addresses = [f"10.1.{n // 250}.{n % 250}" for n in range(endpoints)]
    pieces = [
        piece(*(endpoint(ip, THERE) for ip in addresses[at : at + 100]), name=f"web-{at}", ports=wanted)
        for at in range(0, endpoints, 100)
    ]
    started = time.monotonic()
    tracker.service(None, service(ports=wanted))
    for one in pieces:
        tracker.endpoint_slice(None, one)
    services = tracker.snapshot().services
    assert time.monotonic() - started < 5, "s: an order above what it takes"
    assert len(services) == ports
    assert all(len(one.cluster.endpoints) == endpoints for one in services.values())
    tracker.service(None, named("other", clusterIP="10.96.0.8"))
    after = tracker.snapshot().services
    assert all(after[key] is one for key, one in services.items())


def test_missing_node_name_and_unknown_fields(tracker: Tracker) -> None:
    nameless = {"addresses": ["10.0.0.1"], "zone": "nowhere", "colour": "blue", "deprecatedTopology": None}
    odd = {"addresses": ["10.0.0.2"], "conditions": None, "hints": None, "nodeName": None}
    tracker.own_node(None, {"metadata": {"labels": {"topology.kubernetes.io/zone": "somewhere"}}})
    tracker.service(None, service(flavour="sweet", externalTrafficPolicy="Sometimes"))
    tracker.endpoint_slice(None, piece(nameless, odd, kind="X"))
    one = only(tracker)
    assert ips(one.cluster.endpoints) == ["10.0.0.1", "10.0.0.2"]
    assert one.local.endpoints == ()
    assert not one.external_local


@pytest.mark.parametrize("zone", ["nowhere", "", "a zone, it says", 7, None])
@pytest.mark.feature("B10")
def test_hints_for_a_zone_that_is_not_this_nodes_take_no_endpoint_away(tracker: Tracker, zone: Any) -> None:
    """Whatever they say, and whether or not the node knows its own zone: traffic goes everywhere."""
    hints = {"forZones": [{"name": zone}]}
    hinted = [{**endpoint(ip, THERE), "zone": zone, "hints": hints} for ip in ("10.0.0.1", "10.0.0.2")]
    tracker.service(None, service(trafficDistribution="PreferClose"))
    tracker.endpoint_slice(None, piece(*hinted))
    for labels in ({}, {"topology.kubernetes.io/zone": "somewhere"}):
        tracker.own_node(None, {"metadata": {"labels": labels}})
        assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1", "10.0.0.2"]


def test_an_address_twice_counts_once_whatever_its_parts_say(tracker: Tracker) -> None:
    """Here or there, ready or not: where one says so, in whichever order."""
    first = piece(endpoint("10.0.0.1", HERE), endpoint("10.0.0.1", THERE))
    second = piece(endpoint("10.0.0.1", THERE, ready=False), name="web-2")
    tracker.service(None, service())
    for order in ((first, second), (second, first)):
        for one in order:
            tracker.endpoint_slice(None, one)
        (found,) = only(tracker).cluster.endpoints
        assert (found.ip, found.local) == ("10.0.0.1", True)
        for one in order:
            tracker.endpoint_slice(one, None)


def test_one_bad_endpoint_does_not_take_the_others_along(
    tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        {"addresses": [address]} for address in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "10.0.0.0/8", "x", 7)
    ]
    tracker.service(None, service())
    tracker.endpoint_slice(None, piece(*bad, None, {}, endpoint("10.0.0.1", HERE)))
    assert ips(only(tracker).cluster.endpoints) == ["10.0.0.1"]
    assert len(caplog.messages) == 8
    assert all(line.startswith("Ignoring EndpointSlice default/web-1's endpoint") for line in caplog.messages)


CONTRADICTORY = [
    (
        service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
        "port 80 of TCP is there 2 times",
    ),
    (
        service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
        "port name 'a' of TCP is there 2",
    ),
    (
        service(ports=[{"name": n, "port": p, "nodePort": 30000} for n, p in (("a", 80), ("b", 81))]),
        "node port 30000 of TCP is there 2 times",
    ),
    (service(ports=[{"port": 80, "nodePort": 70000}]), "spec.ports.nodePort 70000 is not a port number"),
    (service(ports=[{"port": True}]), "spec.ports.port True is not a port number"),
    (service(ports=[{"name": 'x" -j DROP\n', "port": 80}]), "is not a name"),
    (service(externalIPs=["10.0.0.0/8"]), "'10.0.0.0/8' is not an address"),
    (service(externalIPs=["127.0.0.1"]), "cannot be an address of a Service"),
    (service(externalIPs=["fe80::1%eth0"]), "'fe80::1%eth0' is not an address"),
    (
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": -1}}),
        "timeoutSeconds -1 is not between 1 and 86400",
    ),
    ({**service(), "status": {"loadBalancer": {"ingress": ["x"]}}}, "AttributeError"),
]


@pytest.mark.parametrize(("obj", "why"), CONTRADICTORY)
def test_contradictions_are_named(
    tracker: Tracker, caplog: pytest.LogCaptureFixture, obj: Object, why: str
) -> None:
    tracker.service(None, named("good", clusterIP="10.96.0.9"))
    tracker.service(None, obj)
    assert list(tracker.snapshot().services) == [("default/good:http", "TCP")]
    (line,) = [one for one in caplog.messages if one.startswith("Ignoring Service default/web: ")]
    assert why in line


@pytest.mark.parametrize("junk", [{}, {"metadata": None}, {"metadata": "x"}, {"metadata": {}}, {"spec": 3}])
def test_what_is_no_object_at_all(tracker: Tracker, junk: Object) -> None:
    for take in (tracker.service, tracker.endpoint_slice, tracker.own_node):
        take(None, junk)
        take(junk, junk)
        take(junk, None)
    assert not tracker.snapshot().services


def test_who_gets_what_two_services_want(tracker: Tracker, caplog: pytest.LogCaptureFixture) -> None:
    """A cluster IP before an external one, then the first by name; the loser is served without it."""
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    thief = named("a", clusterIP="10.96.0.8", externalIPs=["10.96.0.7", "198.51.100.1"])
    owner = named("b", clusterIP="10.96.0.7", externalIPs=["198.51.100.1", "198.51.100.2"], ports=ports)
    third = named("c", clusterIP="10.96.0.9", ports=ports)
    double = named("d", clusterIP="10.96.0.7")
    for one in (third, double, owner, thief):
        tracker.service(None, one)
    found = {one.service: one for one in tracker.snapshot().services.values()}
    assert {name: one.external_ips for name, one in found.items()} == {
        "a": ("198.51.100.1",),
        "b": ("198.51.100.2",),
        "c": (),
    }
    assert {name: one.node_port for name, one in found.items()} == {"a": 0, "b": 30080, "c": 0}
    told = sorted(line for line in caplog.messages if "which Service" in line)
    assert len(told) == 4
    assert 'Service port "default/c:http" wants node port 30080/TCP, which Service "default/b" has' in told[2]

    caplog.set_level(logging.ERROR)
    caplog.clear()
    tracker.service(owner, None)
    found = {one.service: one for one in tracker.snapshot().services.values()}
    assert found["d"].cluster_ip == "10.96.0.7"
    assert found["c"].node_port == 30080
    assert found["a"].external_ips == ("198.51.100.1",), "10.96.0.7 is still another's cluster IP"
    assert not caplog.messages, "what was told is not told again"


@pytest.mark.feature("B9")
def test_addresses_of_the_other_family_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is in a slice, a tracker of one family takes only its own."""
    four, six = Tracker(HERE), Tracker(HERE, 6)
    both = service(clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00:96::7"])
    mixed = piece(endpoint("10.0.0.1", HERE), endpoint("fd00::1", HERE), name="mixed")
    right = {**piece(endpoint("fd00::2", HERE), name="right"), "addressType": "IPv6"}
    for tracker in (four, six):
        tracker.service(None, both)
        for one in (mixed, right):
            tracker.endpoint_slice(None, one)
    assert ips(only(four).cluster.endpoints) == ["10.0.0.1"]
    assert ips(only(six).cluster.endpoints) == ["fd00::2"]
    assert (only(four).cluster_ip, only(six).cluster_ip) == ("10.96.0.7", "fd00:96::7")
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "EndpointSlice default/mixed" in told
    assert "it has no IPv4 address" in told


@pytest.mark.feature("B9")
def test_what_is_given_of_one_family_binds_that_one() -> None:
    six = Tracker(HERE, 6)
    balanced = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}}
    fields = {
        "clusterIPs": ["10.96.0.7", "fd00:96::7"],
        "externalIPs": ["198.51.100.1", "2001:db8:1::1"],
        "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8:3::/64"],
    }
    six.service(None, {**service(clusterIP="10.96.0.7", **fields), "status": balanced})
    one = only(six)
    assert one.external_ips == ("2001:db8:1::1",)
    assert one.load_balancer_ips == ("2001:db8::1",)
    assert one.source_ranges == ("2001:db8:3::/64",)
