"""Whatever Services and EndpointSlices come, in whatever order: properties of the tracker (hypothesis)."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tracker import HERE, THERE, endpoint, piece, service

from testbed.model.service import ServicePort, Snapshot
from testbed.proxy.claims import fronts
from testbed.proxy.modes import NAMES, mode_class
from testbed.proxy.options import ProxyOptions
from testbed.proxy.tracker import Tracker

Object = dict[str, Any]

GOOD = {**service(clusterIP="10.96.9.9"), "metadata": {"namespace": "a", "name": "a-good"}}
GOOD_PIECE = piece(endpoint("10.0.9.9", HERE), name="good")
GOOD_PIECE["metadata"] = {
    "namespace": "a",
    "name": "good-1",
    "labels": {"kubernetes.io/service-name": "a-good"},
}

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.none() | st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none() | st.integers(), max_size=2),
)


def mostly(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """One in eight or so is bad: of objects that are all bad nothing is left to go wrong."""
    return st.sampled_from(good * (7 * len(bad) // len(good) + 1) + bad)


addresses = mostly(
    ["10.96.0.7", "10.96.0.8", "10.96.9.9", "10.0.0.1"], ["fd00::1", "127.0.0.1", "0.0.0.0", "None", "x"]
)
numbers = mostly([80, 443], [0, -1, 65536, None, "80", True])
ports = st.fixed_dictionaries(
    {"port": numbers},
    optional={
        "name": mostly(["", "http", "https"], ["x y", 'x"\n-j', None]),
        "nodePort": mostly([30080, 30081], [0, -1, 65536]),
        "protocol": mostly(["TCP", "UDP"], ["X"]),
    },
)
policy = st.sampled_from(["Local", "Cluster", "Odd", None])
specs = st.fixed_dictionaries(
    {"clusterIP": addresses, "ports": st.lists(ports, min_size=1, max_size=2)},
    optional={
        "type": mostly(["ClusterIP", "NodePort", "LoadBalancer"], ["ExternalName"]),
        "externalIPs": st.lists(addresses, max_size=2),
        "externalTrafficPolicy": policy,
        "internalTrafficPolicy": policy,
        "healthCheckNodePort": mostly([32000, 32001], [0, -1]),
        "sessionAffinity": st.sampled_from(["ClientIP", "None"]),
        "loadBalancerSourceRanges": st.lists(mostly(["10.0.0.0/8", "1.2.3.4/5"], ["x"]), max_size=2),
    },
)
endpoints = st.fixed_dictionaries(
    {"addresses": st.lists(addresses, max_size=2)},
    optional={
        "nodeName": st.sampled_from([HERE, THERE, "", None]),
        "conditions": st.none()
        | st.dictionaries(
            st.sampled_from(["ready", "serving", "terminating"]), st.none() | st.booleans(), max_size=3
        ),
        "hints": st.none() | st.just({"forZones": [{"name": "a"}]}) | st.just({"forZones": [{}]}),
    },
)


@st.composite
def services(draw: st.DrawFn) -> tuple[str, Object]:
    obj = {"metadata": {"namespace": "default", "name": draw(st.sampled_from("xyz"))}, "spec": draw(specs)}
    return "service", _bent(draw, obj)


@st.composite
def slices(draw: st.DrawFn) -> tuple[str, Object]:
    obj = piece(*draw(st.lists(endpoints, max_size=3)), name=draw(st.sampled_from("pq")))
    obj["metadata"]["labels"] = {"kubernetes.io/service-name": draw(st.sampled_from("xyz"))}
    obj["ports"] = draw(st.lists(ports, max_size=2))
    return "endpoint_slice", _bent(draw, obj)


def _bent(draw: st.DrawFn, obj: Object) -> Object:
    """Now and then something in it is junk; never its identity, which an API server vouches for."""
    if draw(st.integers(0, 7)):
        return obj
    holders = [
        obj,
        *(value for value in obj.values() if isinstance(value, dict) and "namespace" not in value),
    ]
    holder = draw(st.sampled_from(holders))
    holder[draw(st.sampled_from([key for key in holder if key != "metadata"]))] = draw(junk)
    return obj


steps = st.lists(st.tuples(services() | slices(), st.booleans()), max_size=12)
"""Objects that come or change, or (True) go."""


def name_of(kind: str, obj: Object) -> tuple[str, str]:
    return kind, obj["metadata"]["name"]


def fed(changes: list[tuple[tuple[str, Object], bool]], look: bool) -> tuple[Tracker, dict[Any, Object]]:
    """A tracker after the changes, as an informer tells them; and the objects that are left."""
    tracker = Tracker(HERE)
    tracker.endpoint_slice(None, GOOD_PIECE)
    tracker.service(None, GOOD)
    left: dict[Any, Object] = {}
    for (kind, obj), goes in changes:
        key = name_of(kind, obj)
        old = left.pop(key, None)
        if not goes:
            left[key] = copy.deepcopy(obj)
        if old or not goes:
            getattr(tracker, kind)(old, left.get(key))
        if look:
            tracker.snapshot()
    return tracker, left


def claimed(snapshot: Snapshot) -> list[Any]:
    return [front for one in snapshot.services.values() for front, _ in fronts(one)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_any_input(changes: list[tuple[tuple[str, Object], bool]]) -> None:
    tracker, left = fed(changes, look=True)
    snapshot = tracker.snapshot(("172.30.0.11",))

    good: ServicePort = snapshot.services[("a/a-good:http", "TCP")]
    assert [one.ip for one in good.cluster.endpoints] == ["10.0.9.9"], "nobody else is in its way"

    wanted = claimed(snapshot)
    assert len(wanted) == len(set(wanted)), "every address and port has one owner"

    told_at_once, _ = fed([((kind, obj), False) for (kind, _), obj in reversed(left.items())], look=False)
    assert told_at_once.snapshot(("172.30.0.11",)) == snapshot, "the way there does not matter"

    for name in NAMES:
        mode_class(name)(ProxyOptions(node=HERE, cluster_cidr="10.0.0.0/16")).render(snapshot)
    tracker.health_checks()
