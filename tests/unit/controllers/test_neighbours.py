from __future__ import annotations

from typing import Any

import pytest

from testbed.controllers.neighbours import (
    NO_PORT,
    NOT_NEAR,
    NOT_SPREAD,
    TOO_NEAR,
    UNLABELLED,
    UNWELCOME,
    Surroundings,
    choose,
)

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
WEB = {"matchLabels": {"app": "web"}}


def node(name: str, zone: str = "") -> dict[str, Any]:
    labels = {HOST: name} | ({ZONE: zone} if zone else {})
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


NODES = [node("a", "x"), node("b", "x"), node("c", "y")]


def pod(app: str = "web", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "labels": {"app": app}}, "spec": spec}


def placed(pod: dict[str, Any], **there: list[dict[str, Any]]) -> tuple[str, set[str]]:
    """The node chosen, and the reasons against the others when there is none."""
    held = {name: {str(n): each for n, each in enumerate(pods)} for name, pods in there.items()}
    namespaces = {"blue": {"metadata": {"labels": {"team": "blue"}}}}
    name, reasons = choose(pod, Surroundings(NODES, held, namespaces), minded=True)
    return name, set(reasons)


def affine(kind: str, key: str = HOST, **more: Any) -> dict[str, Any]:
    return {"affinity": {kind: {REQUIRED: [{"topologyKey": key, "labelSelector": WEB, **more}]}}}


def listening(port: int, **more: str) -> dict[str, Any]:
    return {"containers": [{"ports": [{"containerPort": 1, "hostPort": port, **more}]}]}


def test_a_host_port_is_taken_once_on_a_node() -> None:
    one = pod(**listening(80))
    assert placed(one, a=[one], c=[pod()]) == ("b", set())
    assert placed(one, a=[one], b=[one], c=[one]) == ("", {NO_PORT})
    assert placed(pod(**listening(80, protocol="UDP")), a=[one])[0] == "b", "the emptier one"
    both = pod(**listening(80, hostIP="127.0.0.1")), pod(**listening(80, hostIP="10.0.0.1"))
    assert placed(both[0], a=[both[1]], b=[one], c=[one]) == ("a", set())


def test_affinity_goes_where_the_others_are() -> None:
    near = pod("cache", **affine("podAffinity"))
    assert placed(near, c=[pod()]) == ("c", set())
    assert placed(near, c=[pod("db")]) == ("", {NOT_NEAR})
    assert placed(pod("cache", **affine("podAffinity", ZONE)), a=[pod()]) == ("b", set()), "the same zone"
    assert placed(near, c=[pod(namespace="blue")]) == ("", {NOT_NEAR})
    assert placed(pod("cache", **affine("podAffinity", namespaces=["blue"])), c=[pod(namespace="blue")])[0]
    team = {"namespaceSelector": {"matchLabels": {"team": "blue"}}}
    assert placed(pod("cache", **affine("podAffinity", **team)), c=[pod(namespace="blue")]) == ("c", set())


def test_the_first_of_a_kind_that_wants_its_own_kind_goes_anywhere() -> None:
    assert placed(pod("web", **affine("podAffinity"))) == ("a", set())
    assert placed(pod("web", **affine("podAffinity")), b=[pod()]) == ("b", set())


def test_anti_affinity_keeps_apart_whoever_of_the_two_says_so() -> None:
    apart = pod(**affine("podAntiAffinity"))
    assert placed(apart, a=[pod()], b=[pod()]) == ("c", set())
    assert placed(apart, a=[pod()], b=[pod()], c=[pod()]) == ("", {TOO_NEAR})
    assert placed(pod(**affine("podAntiAffinity", ZONE)), a=[pod()], c=[pod("db")] * 3) == ("c", set())
    assert placed(pod(), a=[apart], b=[apart], c=[pod("db")] * 3) == ("c", set())
    assert placed(pod(), a=[apart], b=[apart], c=[apart]) == ("", {UNWELCOME})


def test_what_is_preferred_is_no_condition() -> None:
    term = {"weight": 10, "podAffinityTerm": {"topologyKey": HOST, "labelSelector": WEB}}
    near = pod("x", affinity={"podAffinity": {PREFERRED: [term]}})
    far = pod("x", affinity={"podAntiAffinity": {PREFERRED: [term]}})
    assert placed(near, c=[pod(), pod("db")]) == ("c", set())
    assert placed(far, a=[pod()], b=[pod()], c=[pod("db")] * 5) == ("c", set())
    assert placed(far, a=[pod()] * 3, b=[pod()], c=[pod()] * 2) == ("b", set())


def spread(skew: int = 1, key: str = ZONE, **more: Any) -> dict[str, Any]:
    base = {"maxSkew": skew, "topologyKey": key, "labelSelector": WEB, "whenUnsatisfiable": "DoNotSchedule"}
    return {"topologySpreadConstraints": [base | more]}


def test_pods_are_spread_over_domains() -> None:
    assert placed(pod(**spread()), a=[pod()], c=[pod("db")] * 5) == ("c", set())
    assert placed(pod(**spread(2)), a=[pod()], c=[pod("db")] * 5)[0] == "b", "a skew of two is allowed"
    soft = {"whenUnsatisfiable": "ScheduleAnyway"}
    assert placed(pod(**spread(**soft)), a=[pod()] * 2, b=[pod("db")] * 2, c=[pod("db")] * 3)[0] == "c"
    assert placed(pod(**spread(minDomains=3)), a=[pod()], c=[pod()]) == ("", {NOT_SPREAD})
    assert placed(pod(**spread(key="rack"))) == ("", {UNLABELLED})


def test_a_node_that_the_pod_cannot_use_counts_for_no_domain() -> None:
    chosen = {"nodeSelector": {ZONE: "x"}, **spread(key=HOST)}
    assert placed(pod(**chosen), a=[pod()], b=[pod()]) == ("a", set()), "c, which is empty, is out of reach"


@pytest.mark.parametrize("keys", [[], ["hash"]])
def test_labels_of_the_pod_itself_narrow_a_selector(keys: list[str]) -> None:
    old, new = pod(), pod(**spread(key=HOST, matchLabelKeys=keys))
    old["metadata"]["labels"]["hash"], new["metadata"]["labels"]["hash"] = "1", "2"
    there = {"a": [old], "b": [pod("db")] * 2, "c": [pod("db")] * 2}
    assert placed(new, **there)[0] == ("a" if keys else "b")
