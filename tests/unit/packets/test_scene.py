"""The scene's manifests say what the cases count on, and what is missing is told. No root."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from testbed.model.cases import CASES, To
from testbed.model.offers import HOMES, NODE_PORTS, OFFERS, ready_of
from testbed.model.oracle import World
from testbed.model.topology import ClusterSpec, NodeWish, plan
from testbed.packets import scene

MADE = {"namespace": scene.NAMESPACE}
SPEC = plan(ClusterSpec(), (NodeWish("node01"), NodeWish("node02")))


def world() -> World:
    """The scene as the API would tell it once everything runs."""
    deployments = list(scene.deployments(sctp=True))
    pods = []
    for number, deployment in enumerate(deployments, 2):
        template = deepcopy(deployment["spec"]["template"])
        ready = {"type": "Ready", "status": "True"}
        addresses = [{"ip": f"10.244.1.{number}"}, {"ip": f"fd00:10:244:1::{number}"}]
        pods.append({**template, "status": {"podIPs": addresses, "phase": "Running", "conditions": [ready]}})
    slices = []
    for service in scene.services(True, SPEC):
        name = service["metadata"]["name"]
        backends = ready_of(name)
        for family, address in (("IPv4", "10.244.1.9"), ("IPv6", "fd00:10:244:1::9")):
            if family not in service["spec"].get("ipFamilies", ("IPv4", "IPv6")):
                continue
            ready = {"addresses": [address], "conditions": {"ready": True}}
            slices.append(
                {
                    "metadata": {
                        "namespace": scene.NAMESPACE,
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": family,
                    "endpoints": [ready for _ in backends],
                }
            )
    balanced = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8:2::1"}]}}
    services = tuple({**service, "status": balanced} for service in scene.services(True, SPEC))
    return World(SPEC, services, tuple(slices), tuple(pods))


def test_a_complete_scene() -> None:
    assert scene._missing(world()) == ""
    assert scene.pod_of(world(), "far")["spec"]["nodeName"] == HOMES["far"]


def test_a_scene_of_some_services_is_complete_with_them() -> None:
    whole = world()
    some = [one for one in whole.services if one["metadata"]["name"] == "near"]
    assert [one["metadata"]["name"] for one in scene.services(True, SPEC, ["near"])] == ["near"]
    part = World(SPEC, tuple(some), whole.slices, whole.pods)
    assert scene._missing(part, {"near": OFFERS["near"]}) == ""
    assert scene._missing(World(SPEC, (), (), whole.pods), {"near": OFFERS["near"]}).startswith(
        "Service near"
    )


def test_what_is_missing_is_named() -> None:
    whole = world()
    unready: Any = deepcopy(whole.pods)
    unready[1]["status"]["conditions"][0]["status"] = "False"
    name = unready[1]["metadata"]["labels"]["backend"]
    assert scene._missing(World(SPEC, whole.services, whole.slices, unready)) == f"Pod {name} is not ready"
    none: Any = deepcopy(whole.slices)
    for piece in none:
        piece["endpoints"] = None
    half: Any = [piece for piece in whole.slices if piece["addressType"] == "IPv4"]
    for slices, count in ((none, 0), (half, 1)):
        told = scene._missing(World(SPEC, whole.services, slices, whole.pods))
        assert told.endswith(f"{count} ready endpoints, not 2")
    bare = World(SPEC, tuple(scene.services(True, SPEC)), whole.slices, whole.pods)
    assert scene._missing(bare) == "Service near has no load balancer address"
    assert scene._missing(World(SPEC)).startswith("Pod ")


def test_the_manifests_serve_every_case() -> None:
    services = {service["metadata"]["name"]: service for service in scene.services(True, SPEC)}
    assert set(services) == set(OFFERS)
    (container,) = next(scene.deployments(sctp=True))["spec"]["template"]["spec"]["containers"]
    pod_ports = {(port["containerPort"], port["protocol"]) for port in container["ports"]}
    for case in CASES:
        if case.to is To.POD:
            assert (case.port, case.protocol) in pod_ports
            continue
        key = "nodePort" if case.to is To.NODE_PORT else "port"
        ports = {(port[key], port["protocol"]) for port in services[case.service]["spec"]["ports"]}
        assert (case.port, case.protocol) in ports


@pytest.mark.feature("B1")
def test_sctp_is_asked_for_where_the_kernel_has_it() -> None:
    for sctp in (False, True):
        texts = [json.dumps(one) for one in (*scene.deployments(sctp), *scene.services(sctp, SPEC))]
        assert any("SCTP" in text for text in texts) is sctp


def test_node_ports_are_in_the_default_range_and_differ() -> None:
    assert len(set(NODE_PORTS.values())) == len(NODE_PORTS)
    assert all(port in SPEC.node_ports for port in NODE_PORTS.values())
