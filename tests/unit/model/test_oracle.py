"""The oracle, row by row: a packet, and what must become of it. No root, no kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from testbed.model.deviations import expect_in
from testbed.model.oracle import Delivery, Fate, Flow, Outcome, Sender, World, entry_node, expect
from testbed.model.topology import ClusterSpec, NodeWish, plan

# controlplane 172.30.0.10 10.244.0.0/24, node01 172.30.0.11 10.244.1.0/24, node02 172.30.0.12 10.244.2.0/24
SPEC = plan(ClusterSpec(), (NodeWish("node01"), NodeWish("node02")))
VIP, LOCAL_VIP, EMPTY_VIP, TWO_VIP = "10.96.0.20", "10.96.0.21", "10.96.0.22", "10.96.0.23"
POD1, POD2, OTHER1 = "10.244.1.2", "10.244.2.2", "10.244.1.3"
NODE1, NODE2, CLIENT = "172.30.0.11", "172.30.0.12", "172.30.0.250"


def service(name: str, address: str, node_port: int, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "web", "protocol": p, "port": 80, "nodePort": node_port} for p in ("TCP", "UDP")]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": address, "ports": ports, **spec},
    }


def endpoint_slice(service: str, *endpoints: tuple[str, str], **conditions: bool) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "protocol": p, "port": 8080} for p in ("TCP", "UDP")],
        "endpoints": [{"addresses": [a], "nodeName": n, "conditions": conditions} for a, n in endpoints],
    }


def pod(address: str, node: str) -> dict[str, Any]:
    ports = [{"containerPort": 8080, "protocol": p} for p in ("TCP", "UDP")]
    return {"spec": {"nodeName": node, "containers": [{"ports": ports}]}, "status": {"podIP": address}}


WORLD = World(
    SPEC,
    services=(
        service("one", VIP, 30001),
        service("local", LOCAL_VIP, 30002, internalTrafficPolicy="Local", externalTrafficPolicy="Local"),
        service("empty", EMPTY_VIP, 30003),
        service("two", TWO_VIP, 30004),
    ),
    slices=(
        endpoint_slice("one", (POD1, "node01")),
        endpoint_slice("local", (POD1, "node01")),
        endpoint_slice("empty", (POD1, "node01"), ready=False),
        endpoint_slice("two", (POD1, "node01")),
        endpoint_slice("two", (POD2, "node02")),
    ),
    pods=(pod(POD1, "node01"), pod(POD2, "node02"), pod(OTHER1, "node01")),
)

SENDERS = {
    POD1: Sender(ip_address(POD1), "node01"),
    OTHER1: Sender(ip_address(OTHER1), "node01"),
    POD2: Sender(ip_address(POD2), "node02"),
    NODE1: Sender(ip_address(NODE1), "node01", host=True),
    NODE2: Sender(ip_address(NODE2), "node02", host=True),
    CLIENT: Sender(ip_address(CLIENT)),
}


def flow(source: str, to: str, port: int, protocol: str = "TCP", via: str = "") -> Flow:
    return Flow(SENDERS[source], ip_address(to), port, protocol, via)


LB_VIP, LB_IP, EXTERNAL, ENDING_VIP = "10.96.0.24", "192.0.2.1", "198.51.100.1", "10.96.0.25"
OUTSIDE = service(
    "outside", LB_VIP, 30005, externalIPs=[EXTERNAL], loadBalancerSourceRanges=["172.30.0.250/32"]
) | {"status": {"loadBalancer": {"ingress": [{"ip": LB_IP}, {"ip": "192.0.2.2", "ipMode": "Proxy"}]}}}
BEYOND = replace(
    WORLD,
    services=(OUTSIDE, service("ending", ENDING_VIP, 30006, externalTrafficPolicy="Local")),
    slices=(
        endpoint_slice("outside", (POD1, "node01")),
        endpoint_slice("ending", (POD1, "node01"), ready=False, serving=True, terminating=True),
        endpoint_slice("ending", (OTHER1, "node01"), ready=False, serving=False, terminating=True),
        endpoint_slice("ending", (POD2, "node02")),
    ),
)


def test_outside_addresses_masquerade_whoever_calls() -> None:
    for source, to in ((OTHER1, EXTERNAL), (CLIENT, EXTERNAL), (CLIENT, LB_IP)):
        (delivery,) = expect(BEYOND, flow(source, to, 80, via="node01")).deliveries
        assert (str(delivery.source), delivery.port_kept) == ("10.244.1.1", False)


@pytest.mark.feature("B4", "D4")
def test_source_ranges_bind_the_load_balancer_only() -> None:
    assert expect(BEYOND, flow(OTHER1, LB_IP, 80)) == Outcome(Fate.SILENCE)
    assert expect(BEYOND, flow(CLIENT, LB_IP, 80, via="node01")).fate is Fate.ANSWERED
    assert expect(BEYOND, flow(OTHER1, NODE1, 30005)).fate is Fate.ANSWERED


@pytest.mark.feature("B4")
def test_a_load_balancer_that_is_a_proxy_is_not_the_nodes_address() -> None:
    assert expect(BEYOND, flow(OTHER1, "192.0.2.2", 80)) == Outcome(Fate.SENT_ON)


@pytest.mark.feature("B5", "D4")
def test_who_terminates_and_serves_answers_only_where_nobody_is_ready() -> None:
    assert expect(BEYOND, flow(OTHER1, ENDING_VIP, 80)).backends == {ip_address(POD2)}
    assert expect(BEYOND, flow(CLIENT, NODE1, 30006)).backends == {ip_address(POD1)}


BRIDGE1, BRIDGE2 = "10.244.1.1", "10.244.2.1"
KEPT = "kept"

# source, to, port, via → the one backend, and the source address it sees (KEPT: the sender's own)
ANSWERED = [
    # ClusterIP: from Pods untranslated, from anything else masqueraded, from the Pod itself masqueraded
    (OTHER1, VIP, 80, "", POD1, KEPT),
    (POD2, VIP, 80, "", POD1, KEPT),
    (POD1, VIP, 80, "", POD1, BRIDGE1),
    (NODE1, VIP, 80, "", POD1, BRIDGE1),
    (NODE2, VIP, 80, "", POD1, NODE2),
    (CLIENT, VIP, 80, "node01", POD1, BRIDGE1),
    (CLIENT, VIP, 80, "node02", POD1, NODE2),
    # node port: always masqueraded, by the node that was called
    (OTHER1, NODE1, 30001, "", POD1, BRIDGE1),
    (OTHER1, NODE2, 30001, "", POD1, NODE2),
    (POD1, NODE1, 30001, "", POD1, BRIDGE1),
    (POD1, NODE2, 30001, "", POD1, NODE2),
    (NODE1, NODE1, 30001, "", POD1, BRIDGE1),
    (NODE1, NODE2, 30001, "", POD1, NODE2),
    (NODE2, NODE1, 30001, "", POD1, BRIDGE1),
    (CLIENT, NODE1, 30001, "", POD1, BRIDGE1),
    (CLIENT, NODE2, 30001, "", POD1, NODE2),
    # policy Local: outside sources are kept; the cluster's own short cut works from every node
    (CLIENT, NODE1, 30002, "", POD1, KEPT),
    (NODE2, NODE1, 30002, "", POD1, KEPT),
    (NODE1, NODE1, 30002, "", POD1, BRIDGE1),
    (NODE2, NODE2, 30002, "", POD1, NODE2),
    (POD2, NODE2, 30002, "", POD1, KEPT),
    (OTHER1, LOCAL_VIP, 80, "", POD1, KEPT),
    # Pod to Pod: never translated; a node takes the address of the way out, and its port
    (OTHER1, POD1, 8080, "", POD1, KEPT),
    (POD2, POD1, 8080, "", POD1, KEPT),
    (NODE1, POD1, 8080, "", POD1, BRIDGE1),
    (NODE2, POD1, 8080, "", POD1, NODE2),
]


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize(("source", "to", "port", "via", "backend", "seen"), ANSWERED)
def test_answered(source: str, to: str, port: int, via: str, backend: str, seen: str, protocol: str) -> None:
    outcome = expect(WORLD, flow(source, to, port, protocol, via))
    address = ip_address(source if seen == KEPT else seen)
    kept = seen == KEPT or to == POD1
    assert outcome == Outcome(Fate.ANSWERED, (Delivery(ip_address(backend), 8080, address, kept),))


# source, to, port, protocol, via → fate
REFUSED = [
    (OTHER1, EMPTY_VIP, 80, "TCP", Fate.PORT_UNREACHABLE),  # its only endpoint is not ready
    (OTHER1, EMPTY_VIP, 80, "UDP", Fate.PORT_UNREACHABLE),
    (NODE1, NODE2, 30003, "TCP", Fate.PORT_UNREACHABLE),
    (CLIENT, NODE2, 30003, "UDP", Fate.PORT_UNREACHABLE),
    (CLIENT, NODE2, 30002, "TCP", Fate.SILENCE),  # policy Local, no endpoint there, but elsewhere
    (NODE1, NODE2, 30002, "TCP", Fate.SILENCE),  # another node is outside, too
    (POD2, LOCAL_VIP, 80, "TCP", Fate.SILENCE),
    (OTHER1, POD1, 81, "TCP", Fate.RESET),
    (OTHER1, POD1, 81, "UDP", Fate.PORT_UNREACHABLE),
]


@pytest.mark.parametrize(("source", "to", "port", "protocol", "fate"), REFUSED)
def test_refused(source: str, to: str, port: int, protocol: str, fate: Fate) -> None:
    assert expect(WORLD, flow(source, to, port, protocol)).fate is fate


def test_every_ready_backend_may_answer_each_with_its_own_source() -> None:
    outcome = expect(WORLD, flow(POD1, TWO_VIP, 80))
    assert outcome.backends == {ip_address(POD1), ip_address(POD2)}
    seen = {str(d.backend): (str(d.source), d.port_kept) for d in outcome.deliveries}
    assert seen == {POD1: (BRIDGE1, False), POD2: (POD1, True)}  # hairpin to itself, plain to the other


def test_an_unknown_destination_is_no_opinion() -> None:
    for to, port in ((VIP, 81), ("192.0.2.1", 80), (NODE1, 22)):
        with pytest.raises(LookupError):
            expect(WORLD, flow(OTHER1, to, port))


def test_an_outside_sender_needs_a_way_in() -> None:
    with pytest.raises(LookupError):
        entry_node(WORLD, flow(CLIENT, VIP, 80))


def test_another_familys_slices_and_another_namespaces_do_not_count() -> None:
    strange = endpoint_slice("one", (POD2, "node02"))
    for change in ({"addressType": "IPv6"}, {"metadata": {**strange["metadata"], "namespace": "else"}}):
        world = replace(WORLD, slices=(*WORLD.slices, {**strange, **change}))
        assert expect(world, flow(OTHER1, VIP, 80)) == expect(WORLD, flow(OTHER1, VIP, 80))


@pytest.mark.feature("B9", "D4")
def test_in_a_family_that_a_service_has_not_its_node_port_is_none() -> None:
    only = tuple({**one, "spec": {**one["spec"], "ipFamilies": ["IPv6"]}} for one in WORLD.services)
    world = replace(WORLD, services=only)
    for protocol, fate in (("TCP", Fate.RESET), ("UDP", Fate.PORT_UNREACHABLE)):
        assert expect(WORLD, flow(CLIENT, NODE1, 30001, protocol)).fate is Fate.ANSWERED
        assert expect(world, flow(CLIENT, NODE1, 30001, protocol)) == Outcome(fate)


@pytest.mark.feature("B1", "D4")
def test_userspace_refuses_sctp() -> None:
    ports = ("TCP", "UDP", "SCTP")
    (one, *_), (piece, *_), pods = WORLD.services, WORLD.slices, WORLD.pods
    service = {
        **one,
        "spec": {**one["spec"], "ports": [{"name": "web", "protocol": p, "port": 80} for p in ports]},
    }
    served = {**piece, "ports": [{"name": "web", "protocol": p, "port": 8080} for p in ports]}
    listening = [{"containerPort": 8080, "protocol": p} for p in ports]
    heard = tuple({**pod, "spec": {**pod["spec"], "containers": [{"ports": listening}]}} for pod in pods)
    world = replace(WORLD, services=(service,), slices=(served,), pods=heard)
    sent = flow(OTHER1, VIP, 80, "SCTP")
    assert expect_in("iptables", world, sent) == (expect(world, sent), "")
    assert expect(world, sent).fate is Fate.ANSWERED
    outcome, reason = expect_in("userspace", world, sent)
    assert outcome == Outcome(Fate.PORT_UNREACHABLE)
    assert reason


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_kernel_modes_deviate_nowhere(mode: str) -> None:
    for source, to, port, via, *_ in ANSWERED:
        one = flow(source, to, port, "TCP", via)
        assert expect_in(mode, WORLD, one) == (expect(WORLD, one), "")


def test_userspace_shows_every_backend_the_node() -> None:
    outcome, reason = expect_in("userspace", WORLD, flow(OTHER1, VIP, 80))
    assert outcome.deliveries == (Delivery(ip_address(POD1), 8080, ip_address(BRIDGE1), False),)
    assert reason
    outcome, _ = expect_in("userspace", WORLD, flow(POD2, VIP, 80))
    assert outcome.deliveries[0].source == ip_address(NODE2)


def test_userspace_refuses_as_the_others_do() -> None:
    for protocol in ("TCP", "UDP"):
        outcome, reason = expect_in("userspace", WORLD, flow(POD2, EMPTY_VIP, 80, protocol))
        assert (outcome, reason) == (Outcome(Fate.PORT_UNREACHABLE), "")


def test_a_deviation_names_its_reason_only_where_it_differs() -> None:
    outcome, reason = expect_in("userspace", WORLD, flow(CLIENT, NODE2, 30001))
    assert (outcome, reason) == (expect(WORLD, flow(CLIENT, NODE2, 30001)), "")
    assert expect_in("userspace", WORLD, flow(OTHER1, POD1, 8080))[1] == ""


def test_ipvs_masquerades_nothing_under_policy_local() -> None:
    outcome, reason = expect_in("ipvs", WORLD, flow(NODE1, NODE1, 30002))
    assert (str(outcome.deliveries[0].source), outcome.deliveries[0].port_kept) == (NODE1, True)
    assert reason
    assert expect_in("ipvs", WORLD, flow(NODE2, NODE1, 30002))[1] == ""
    assert expect_in("ipvs", WORLD, flow(NODE2, LOCAL_VIP, 80))[0] == Outcome(Fate.PORT_UNREACHABLE)
    assert expect_in("ipvs", WORLD, flow(POD2, LOCAL_VIP, 80))[0] == Outcome(Fate.SILENCE)
