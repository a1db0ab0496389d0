"""Routes to other nodes' Pods, between two network namespaces that share a link."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from testbed.kernel import link
from testbed.kernel.netns import Worker, scratch
from testbed.node import routes
from testbed.node.routes import Peer

ONE = Peer(IPv4Address("192.0.2.1"), IPv4Network("10.244.1.0/24"))
TWO = Peer(IPv4Address("192.0.2.2"), IPv4Network("10.244.2.0/24"))
FAR = Peer(IPv4Address("198.51.100.3"), IPv4Network("10.244.3.0/24"))
PORT = 7001


def wire(other: Path) -> None:
    with IPRoute() as ip, other.open() as netns:
        link.veth(ip, "eth0", "eth0", netns=netns.fileno())


def furnish(me: Peer, foreign: str = "") -> None:
    """The node's own address, and one of a Pod. `foreign`: a route of somebody else's."""
    with IPRoute() as ip:
        link.address(ip, "eth0", f"{me.address}/24")
        link.up(ip, "eth0")
        link.address(ip, "lo", f"{me.pods[5]}/32")
        link.route(ip, "default", via=str(TWO.address if me == ONE else ONE.address))
        if foreign:
            link.route(ip, foreign, via=str(TWO.address))


def gateways() -> dict[str, str]:
    with IPRoute() as ip:
        return {
            f"{each.get_attr('RTA_DST')}/{each['dst_len']}": each.get_attr("RTA_GATEWAY")
            for each in ip.get_routes(family=socket.AF_INET, table=254)
            if each.get_attr("RTA_DST") and each.get_attr("RTA_GATEWAY")
        }


def links() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def listen() -> socket.socket:
    return socket.create_server((str(TWO.pods[5]), PORT))


class Listener:
    """Held in the worker between two calls."""

    server: socket.socket

    @classmethod
    def start(cls) -> None:
        cls.server = listen()

    @classmethod
    def peer(cls) -> str:
        channel, (address, _) = cls.server.accept()
        channel.close()
        return str(address)


def connect() -> None:
    source = (str(ONE.pods[5]), 0)
    socket.create_connection((str(TWO.pods[5]), PORT), timeout=10, source_address=source).close()


@pytest.fixture
def nodes() -> Iterator[tuple[Worker, Worker]]:
    with scratch() as here, scratch() as there, Worker(here) as one, Worker(there) as two:
        one.call(wire, there)
        one.call(furnish, ONE, "203.0.113.0/24")
        two.call(furnish, TWO)
        yield one, two


@pytest.mark.parametrize("choice", ["auto", "vxlan"])
def test_a_pod_sees_the_address_of_a_pod_on_another_node(nodes: tuple[Worker, Worker], choice: str) -> None:
    one, two = nodes
    one.call(routes.apply, ONE, [TWO], choice)
    two.call(routes.apply, TWO, [ONE], choice)
    assert (routes.TUNNEL in one.call(links)) is (choice == "vxlan")
    two.call(Listener.start)
    one.call(connect)
    assert two.call(Listener.peer) == str(ONE.pods[5])


def test_a_node_behind_a_router_is_reached_through_the_tunnel(nodes: tuple[Worker, Worker]) -> None:
    one, _ = nodes
    one.call(routes.apply, ONE, [TWO, FAR])
    held = one.call(gateways)
    assert held[str(TWO.pods)] == str(TWO.address)
    assert held[str(FAR.pods)] == str(FAR.gateway)


def test_what_is_gone_loses_its_route_and_nothing_else_is_touched(nodes: tuple[Worker, Worker]) -> None:
    one, _ = nodes
    before = one.call(gateways)
    one.call(routes.apply, ONE, [TWO, FAR])
    one.call(routes.apply, ONE, [TWO])
    assert one.call(gateways) == before | {str(TWO.pods): str(TWO.address)}
    assert routes.TUNNEL not in one.call(links)
    one.call(routes.apply, ONE, [])
    assert one.call(gateways) == before
