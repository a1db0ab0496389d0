"""ClusterIPs and node ports: nobody gets what another has, and what is given back can be had again."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.api import schema, services
from testbed.api.allocation import Full, OutOfRange, Pool, Range, Taken, address_range, port_range
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.status import StatusError
from testbed.model.topology import PortRange

ONE, OTHER = ("ns", "one"), ("ns", "other")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "take", "release"]), st.integers(0, 12), st.sampled_from([ONE, OTHER])
    ),
    max_size=60,
)


@given(STEPS)
def test_a_pool_agrees_with_a_plain_dictionary(steps: list[tuple[str, int, tuple[str, str]]]) -> None:
    pool, model = Pool(Range(1, 10, 3)), {}
    for step, number, owner in steps:
        if step == "release":
            pool.release(number, owner)
            if model.get(number) == owner:
                del model[number]
        elif step == "take":
            if len(model) == 10:
                with pytest.raises(Full):
                    pool.take(owner)
            else:
                got = pool.take(owner)
                assert got not in model
                assert got > 3 or all(upper in model for upper in range(4, 11))
                model[got] = owner
        elif not 1 <= number <= 10:
            with pytest.raises(OutOfRange):
                pool.claim(number, owner)
        elif model.get(number, owner) != owner:
            with pytest.raises(Taken):
                pool.claim(number, owner)
        else:
            pool.claim(number, owner)
            model[number] = owner


def test_bands_are_as_upstream() -> None:
    """KEP-3070 and KEP-3668: min(max(16, size / 16), 256) addresses; min(max(16, size / 32), 128) ports."""
    bands = [
        address_range(IPv4Network(text)).reserved for text in ("10.0.0.0/24", "10.0.0.0/22", "10.96.0.0/12")
    ]
    assert bands == [16, 64, 256]
    assert [port_range(PortRange(30000, last)).reserved for last in (30099, 32767)] == [16, 86]


def service(name: str, **spec: Any) -> dict[str, Any]:
    made = {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}
    services.defaults(made)
    schema.fill(schema.of_kind("", "Service"), made)
    return made


@pytest.fixture
def addresses() -> ServiceAddresses:
    return ServiceAddresses([IPv4Network("10.96.0.0/24")], PortRange(30000, 30019))


@pytest.mark.feature("A4", "A13")
def test_a_service_gets_an_address_of_the_range_and_its_family(addresses: ServiceAddresses) -> None:
    made = service("a", ports=[{"port": 80}])
    addresses.assign(made, None)
    assert ip_address(made["spec"]["clusterIP"]) in addresses.networks[0]
    assert made["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]]
    assert (made["spec"]["ipFamilies"], made["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


@pytest.mark.feature("A5", "B1")
def test_one_port_under_two_protocols_shares_its_node_port(addresses: ServiceAddresses) -> None:
    ports = [
        {"name": "t", "port": 53},
        {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "w", "port": 80},
    ]
    made = service("dns", type="NodePort", ports=ports)
    addresses.assign(made, None)
    tcp, udp, web = (port["nodePort"] for port in made["spec"]["ports"])
    assert tcp == udp != web


def test_a_refused_service_leaves_nothing_taken(addresses: ServiceAddresses) -> None:
    addresses.assign(service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]), None)
    ports = [{"name": "x", "port": 80, "nodePort": 30002}, {"name": "y", "port": 81, "nodePort": 30001}]
    with pytest.raises(StatusError) as refusal:
        addresses.assign(service("b", type="NodePort", clusterIP="10.96.0.9", ports=ports), None)
    assert refusal.value.status["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: 30001: provided port is already allocated",
            "field": "spec.ports[1].nodePort",
        }
    ]
    port = {"port": 80, "nodePort": 30002}
    addresses.assign(service("c", type="NodePort", clusterIP="10.96.0.9", ports=[port]), None)


def test_what_a_service_gives_up_can_be_had_again(addresses: ServiceAddresses) -> None:
    old = service("a", type="NodePort", clusterIP="10.96.0.9", ports=[{"port": 80, "nodePort": 30001}])
    addresses.assign(old, None)
    new = service("a", type="ClusterIP", clusterIP="10.96.0.9", ports=[{"port": 80}])
    addresses.assign(new, old)
    addresses.release(old, new)
    other = service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
    addresses.assign(other, None)
    with pytest.raises(StatusError, match="already allocated"):
        addresses.assign(service("c", clusterIP="10.96.0.9", ports=[{"port": 80}]), None)


def test_allocation_is_derived_from_what_is_stored(addresses: ServiceAddresses) -> None:
    stored = [service(f"s{i}", type="NodePort", ports=[{"port": 80}]) for i in range(20)]
    for each in stored:
        addresses.assign(each, None)
    again = ServiceAddresses(addresses.networks, addresses.ports)
    again.adopt(stored)
    with pytest.raises(StatusError, match="range is full"):
        again.assign(service("late", type="NodePort", ports=[{"port": 80}]), None)
    late = service("late", ports=[{"port": 80}])
    again.assign(late, None)
    assert late["spec"]["clusterIP"] not in {each["spec"]["clusterIP"] for each in stored}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"ipFamilyPolicy": "RequireDualStack"}, "not configured for dual-stack"),
        ({"ipFamilies": ["IPv6"]}, "not configured on this cluster"),
        ({"clusterIP": "2001:db8::1"}, "IPv6 is not configured on this cluster"),
        ({"clusterIP": "10.96.0.0"}, "not in the valid range"),
        ({"clusterIP": "10.96.0.255"}, "not in the valid range"),
    ],
)
def test_what_this_cluster_does_not_have_is_refused(
    addresses: ServiceAddresses, spec: dict[str, Any], told: str
) -> None:
    with pytest.raises(StatusError, match=told):
        addresses.assign(service("a", ports=[{"port": 80}], **spec), None)
