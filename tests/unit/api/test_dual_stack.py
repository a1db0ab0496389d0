"""ipFamilies, ipFamilyPolicy and clusterIPs of Services: filled in, changed, refused as upstream does."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from testbed.api import dual_stack, schema, services
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.status import StatusError
from testbed.model.topology import PortRange

pytestmark = pytest.mark.feature("B9")

V4, V6 = IPv4Network("10.96.0.0/24"), IPv6Network("fd00:10:96::/112")
PORTS = PortRange(30000, 30099)
BOTH = ServiceAddresses([V4, V6], PORTS)
Spec = dict[str, Any]


def written(addresses: ServiceAddresses, spec: Spec, old: Spec | None = None) -> Spec:
    """The spec as it is stored. Raises StatusError."""
    made: dict[str, Any] = {
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}, **spec},
    }
    before = {"metadata": made["metadata"], "spec": old} if old else None
    if before:
        dual_stack.link(made["spec"], before["spec"])
    services.defaults(made)
    schema.fill(schema.of_kind("", "Service"), made)
    if before:
        services.carry_over(made, before)
    addresses.assign(made, before)
    stored: Spec = made["spec"]
    return stored


def families(addresses: ServiceAddresses, spec: Spec) -> list[str]:
    stored = written(addresses, spec)
    assert [f"IPv{6 if ':' in ip else 4}" for ip in stored["clusterIPs"]] == stored["ipFamilies"]
    assert stored["clusterIP"] == stored["clusterIPs"][0]
    return list(stored["ipFamilies"])


@pytest.mark.parametrize(
    ("ranges", "spec", "due"),
    [
        ([V4, V6], {}, ["IPv4"]),
        ([V6, V4], {}, ["IPv6"]),
        ([V4, V6], {"ipFamilies": ["IPv6"]}, ["IPv6"]),
        ([V4, V6], {"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"]),
        ([V6, V4], {"ipFamilyPolicy": "PreferDualStack"}, ["IPv6", "IPv4"]),
        ([V4], {"ipFamilyPolicy": "PreferDualStack"}, ["IPv4"]),
        ([V4, V6], {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"]),
        ([V4, V6], {"clusterIP": "fd00:10:96::77"}, ["IPv6"]),
        (
            [V4, V6],
            {
                "clusterIP": "fd00:10:96::78",
                "clusterIPs": ["fd00:10:96::78", "10.96.0.78"],
                "ipFamilyPolicy": "RequireDualStack",
            },
            ["IPv6", "IPv4"],
        ),
    ],
)
def test_families_and_addresses(ranges: list[Any], spec: Spec, due: list[str]) -> None:
    assert families(ServiceAddresses(ranges, PORTS), spec) == due


def test_headless_without_a_selector_is_of_both_families_on_any_cluster() -> None:
    spec = written(ServiceAddresses([V4], PORTS), {"clusterIP": "None", "selector": None})
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])
    spec = written(BOTH, {"clusterIP": "None"})
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("SingleStack", ["IPv4"])


@pytest.mark.parametrize(
    ("ranges", "spec", "field", "told"),
    [
        (
            [V4],
            {"ipFamilyPolicy": "RequireDualStack"},
            "spec.ipFamilyPolicy",
            'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
        ),
        (
            [V4],
            {"ipFamilies": ["IPv6"]},
            "spec.ipFamilies[0]",
            'Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            [V4],
            {"clusterIP": "fd00::1"},
            "spec.clusterIPs[0]",
            'Invalid value: []string{"fd00::1"}: IPv6 is not configured on this cluster',
        ),
        (
            [V4, V6],
            {"ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy",
            "Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' "
            "when multiple IP families are specified",
        ),
        (
            [V4, V6],
            {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "RequireDualStack"},
            "spec.ipFamilies[1]",
            'Duplicate value: "IPv4"',
        ),
        (
            [V4, V6],
            {"clusterIP": "fd00:10:96::7", "ipFamilies": ["IPv4"]},
            "spec.clusterIPs[0]",
            'Invalid value: "fd00:10:96::7": expected an IPv4 value as indicated by `ipFamilies[0]`',
        ),
        (
            [V4, V6],
            {"clusterIPs": ["10.96.0.5", "10.96.0.6"], "ipFamilyPolicy": "RequireDualStack"},
            "spec.clusterIPs",
            'Invalid value: []string{"10.96.0.5", "10.96.0.6"}: '
            "may specify no more than one IP for each IP family",
        ),
        (
            [V4, V6],
            {"clusterIP": "fd00:10:97::1"},
            "spec.clusterIPs",
            'Invalid value: []string{"fd00:10:97::1"}: failed to allocate IP fd00:10:97::1: the provided IP '
            "(fd00:10:97::1) is not in the valid range. The range of valid IPs is fd00:10:96::/112",
        ),
    ],
)
def test_refusals(ranges: list[Any], spec: Spec, field: str, told: str) -> None:
    with pytest.raises(StatusError) as refusal:
        written(ServiceAddresses(ranges, PORTS), spec)
    (cause,) = refusal.value.status["details"]["causes"]
    assert (cause["field"], cause["message"]) == (field, told)


def test_a_service_gets_a_second_family_and_loses_it() -> None:
    single = written(BOTH, {})
    double = written(BOTH, {"ipFamilyPolicy": "PreferDualStack"}, single)
    assert double["clusterIPs"][0] == single["clusterIP"]
    assert double["ipFamilies"] == ["IPv4", "IPv6"]
    back = written(BOTH, {**deepcopy(double), "ipFamilyPolicy": "SingleStack"}, double)
    assert (back["clusterIPs"], back["ipFamilies"]) == ([single["clusterIP"]], ["IPv4"])


def test_the_second_address_is_given_back() -> None:
    few = ServiceAddresses([V4, IPv6Network("fd00:10:96::/127")], PORTS)
    double = written(few, {"ipFamilyPolicy": "RequireDualStack"})
    with pytest.raises(StatusError, match="range is full"):
        written(few, {"ipFamilies": ["IPv6"]})
    single = written(few, {**deepcopy(double), "ipFamilyPolicy": "SingleStack"}, double)
    metadata = {"metadata": {"name": "s", "namespace": "ns"}}
    few.release({**metadata, "spec": double}, {**metadata, "spec": single})
    assert families(few, {"ipFamilies": ["IPv6"]}) == ["IPv6"]


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"ipFamilies": ["IPv6", "IPv4"]}, "spec.clusterIPs[0]", "expected an IPv6 value"),
        (
            {"ipFamilies": ["IPv4"]},
            "spec.ipFamilyPolicy",
            "must be 'SingleStack' to release the secondary IP",
        ),
        (
            {"clusterIPs": ["10.96.0.9"], "clusterIP": "10.96.0.9"},
            "spec.clusterIPs[0]",
            "may not change once set",
        ),
    ],
)
def test_what_an_update_may_not(change: Spec, field: str, told: str) -> None:
    double = written(BOTH, {"ipFamilyPolicy": "RequireDualStack"})
    with pytest.raises(StatusError) as refusal:
        written(BOTH, {**deepcopy(double), **change}, double)
    causes = {cause["field"]: cause["message"] for cause in refusal.value.status["details"]["causes"]}
    assert told in causes[field]


def test_an_old_client_that_knows_one_address_leaves_the_other() -> None:
    double = written(BOTH, {"ipFamilyPolicy": "RequireDualStack"})
    sent = {key: double[key] for key in ("clusterIP", "ports", "selector", "type")}
    again = written(BOTH, deepcopy(sent), double)
    assert (again["clusterIPs"], again["ipFamilies"]) == (double["clusterIPs"], double["ipFamilies"])
