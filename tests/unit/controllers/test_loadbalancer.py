"""Which address a load balancer gets, and which Services are this controller's. No API."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from testbed.controllers.loadbalancer import choose, ingress, is_ours, pools
from testbed.model.topology import LOAD_BALANCERS

POOL = IPv4Network("192.0.2.0/30")  # .1 and .2


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", **spec}}


@pytest.mark.parametrize(
    ("spec", "taken", "chosen"),
    [
        ({}, [], "192.0.2.1"),
        ({}, ["192.0.2.1"], "192.0.2.2"),
        ({}, ["192.0.2.1", "192.0.2.2"], ""),
        ({"loadBalancerIP": "192.0.2.2"}, [], "192.0.2.2"),
        ({"loadBalancerIP": "192.0.2.2"}, ["192.0.2.2"], ""),
        ({"loadBalancerIP": "10.0.0.1"}, [], ""),
    ],
)
@pytest.mark.feature("A6")
def test_an_address_that_nobody_has(spec: dict[str, Any], taken: list[str], chosen: str) -> None:
    assert choose(service(**spec), taken, POOL) == chosen


def test_only_load_balancers_without_another_class_are_ours() -> None:
    assert is_ours(service())
    assert not is_ours(service(loadBalancerClass="example.com/other"))
    assert not is_ours(service(type="NodePort"))
    ending = service()
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_ours(ending)


def test_a_service_without_status_has_no_ingress() -> None:
    assert ingress(service()) == []
    assert ingress({**service(), "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}) != []


@pytest.mark.feature("B9")
def test_each_family_has_its_pool() -> None:
    both = service(ipFamilies=["IPv6", "IPv4"], loadBalancerIP="192.0.2.9")
    assert [choose(both, [], pool) for pool in pools(both)] == ["2001:db8:2::1", "192.0.2.9"]
    assert pools(service()) == [LOAD_BALANCERS[4]]
