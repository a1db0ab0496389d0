"""IPVS mode lets connections end in peace: TCP servers leave slowly, UDP ones at once; and its time-outs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from ipvs_scene import KEPT, Callers, kept_open
from service_scene import NODE, NODE_PORT, OPTIONS, PODS, VIP, Proxy, Scene, scene, service, snapshot

from testbed.kernel import sysctl
from testbed.kernel.ipvs import Address, Ipvs
from testbed.model.service import Endpoint, Protocol, Route, ServicePort

pytestmark = pytest.mark.needs("ip_vs")

KEPT_PORT = KEPT[0]
A, B = PODS["a"], PODS["b"]
TO_A, TO_B = f"a:{KEPT_PORT}", f"b:{KEPT_PORT}"
QUICK = replace(
    OPTIONS, ipvs_tcp_timeout=600, ipvs_tcpfin_timeout=5, ipvs_udp_timeout=77, ipvs_strict_arp=True
)


def kept(*pods: str) -> ServicePort:
    """The Service, with the Pods' servers that keep connections open."""
    route = Route(tuple(Endpoint(PODS[pod], KEPT_PORT, True) for pod in pods))
    return service(cluster=route, local=route)


def weights(protocol: str, ip: str, port: int) -> dict[Address, int]:
    found = Ipvs().read().get((protocol, ip, port))
    return dict(found.servers) if found else {}


@pytest.fixture(scope="module")
def running() -> Iterator[Scene]:
    with scene() as made, kept_open(made):
        made.at["node"].call(Proxy.start, "ipvs", "", QUICK)
        yield made
        made.at["node"].call(Proxy.stop)


@pytest.mark.feature("B15")
def test_connections_outlive_their_endpoint(running: Scene) -> None:
    node, client = running.at["node"], running.at["client"]
    node.call(Proxy.sync, snapshot(kept("a", "b")))
    assert set(client.call(Callers.call, NODE, NODE_PORT, 4)) == {TO_A, TO_B}

    node.call(Proxy.sync, snapshot(kept("b")))
    assert node.call(weights, "TCP", NODE, NODE_PORT) == {(A, KEPT_PORT): 0, (B, KEPT_PORT): 1}
    assert node.call(weights, "TCP", VIP, 80) == {(B, KEPT_PORT): 1}, "nobody was connected there"
    assert sorted(client.call(Callers.echo)) == [TO_A] * 2 + [TO_B] * 2
    assert client.call(Callers.call, NODE, NODE_PORT, 4) == [TO_B] * 4

    node.call(Proxy.sync, snapshot(kept("b")), repair=True)
    assert len(client.call(Callers.echo)) == 8, "a repair leaves it in peace too"

    client.call(Callers.hang_up, "", True)
    deadline = time.monotonic() + 60
    while node.call(weights, "TCP", NODE, NODE_PORT) != {(B, KEPT_PORT): 1}:
        assert time.monotonic() < deadline, "a server without connections stays"
        if not node.call(Proxy.healthy):
            node.call(Proxy.sync, snapshot(kept("b")))
        time.sleep(0.2)
    assert node.call(Proxy.healthy)


def test_an_endpoint_that_comes_back_gets_its_weight(running: Scene) -> None:
    node, client = running.at["node"], running.at["client"]
    node.call(Proxy.sync, snapshot(kept("a")))
    assert client.call(Callers.call, NODE, NODE_PORT, 1) == [TO_A]
    node.call(Proxy.sync, snapshot(kept("b")))
    assert node.call(weights, "TCP", NODE, NODE_PORT) == {(A, KEPT_PORT): 0, (B, KEPT_PORT): 1}
    node.call(Proxy.sync, snapshot(kept("a")))
    assert node.call(weights, "TCP", NODE, NODE_PORT) == {(A, KEPT_PORT): 1}
    assert client.call(Callers.echo) == [TO_A]
    client.call(Callers.hang_up)


@pytest.mark.feature("B15")
def test_udp_servers_go_at_once(running: Scene) -> None:
    node = running.at["node"]
    node.call(Proxy.sync, snapshot(service("a", protocol=Protocol.UDP)))
    assert running.ask("client", NODE, NODE_PORT, "UDP", source_port=5556).split()[0] == "a"
    node.call(Proxy.sync, snapshot(service("b", protocol=Protocol.UDP)))
    assert node.call(weights, "UDP", NODE, NODE_PORT) == {(B, 8080): 1}
    assert running.ask("client", NODE, NODE_PORT, "UDP", source_port=5556).split()[0] == "b"


def test_timeouts_and_strict_arp(running: Scene) -> None:
    assert running.at["node"].call(timeouts) == (600, 5, 77)
    for name, value in (("arp_ignore", "1"), ("arp_announce", "2")):
        assert running.at["node"].call(sysctl.get, f"net.ipv4.conf.all.{name}") == value


def timeouts() -> tuple[int, ...]:
    """TCP, TCP after FIN and UDP, in seconds: by pyroute2, which had no part in writing them."""
    from pyroute2 import IPVS
    from pyroute2.netlink.generic.ipvs import IPVS_CMD_GET_CONFIG, ipvsmsg

    message = ipvsmsg()
    message["cmd"], message["version"] = IPVS_CMD_GET_CONFIG, 1
    with IPVS() as ipvs:
        (answer,) = ipvs.nlm_request(message, msg_type=ipvs.prid, msg_flags=1)
    told = (answer.get_attr(f"IPVS_CMD_ATTR_TIMEOUT_{name}") for name in ("TCP", "TCP_FIN", "UDP"))
    return tuple(int.from_bytes(bytes.fromhex(value.replace(":", "")), sys.byteorder) for value in told)
