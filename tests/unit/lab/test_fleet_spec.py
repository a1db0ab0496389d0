"""A fleet as its API tells it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from testbed.errors import UsageError
from testbed.lab.fleet_spec import CONTROL_PLANE_LABEL, described


def node(name: str, number: int, *, ready: bool = True, plane: bool = False) -> dict:
    return {
        "metadata": {"name": name, "labels": {CONTROL_PLANE_LABEL: ""} if plane else {"zone": name}},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24"]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": f"192.0.2.{number}"},
            ],
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def test_the_control_plane_comes_first_and_is_the_client_outside() -> None:
    spec = described([node("a", 5), node("big", 2, plane=True), node("b", 6)], ["10.96.0.0/12"])
    assert [one.name for one in spec.nodes] == ["big", "a", "b"]
    assert spec.client_addresses == (ip_address("192.0.2.2"),)
    assert spec.nodes[1].labels == {"zone": "a"}
    assert spec.families == (4,)
    assert spec.service_cidrs == (ip_network("10.96.0.0/12"),)


def test_the_pod_range_is_the_smallest_that_holds_all_nodes() -> None:
    spec = described([node("big", 2, plane=True), node("a", 5)], ["10.96.0.0/12"])
    assert spec.cluster_cidrs == (ip_network("10.244.0.0/21"),)


def test_a_node_that_is_lost_is_left_out() -> None:
    spec = described([node("big", 2, plane=True), node("a", 5, ready=False)], ["10.96.0.0/12"])
    assert [one.name for one in spec.nodes] == ["big"]


def test_without_a_control_plane_there_is_no_fleet() -> None:
    with pytest.raises(UsageError, match="no node that is Ready has the label"):
        described([node("a", 5)], ["10.96.0.0/12"])
