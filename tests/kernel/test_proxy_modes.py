"""Every mode against the real kernel: the same rows of packets, in scratch network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from service_scene import (
    CLIENT,
    NODE,
    NODE_PORT,
    PODS,
    PORT,
    VIP,
    Proxy,
    Scene,
    nobody_here,
    scene,
    service,
    snapshot,
    variant_path,
)

from testbed.model.service import Endpoint, Protocol, Route, Snapshot

TCP, UDP = Protocol.TCP, Protocol.UDP
A, B = PODS["a"], PODS["b"]


@dataclass
class Running:
    """A scene whose node runs `mode`."""

    scene: Scene
    mode: str

    def sync(self, wanted: Snapshot, repair: bool = False) -> int:
        return self.scene.at["node"].call(Proxy.sync, wanted, repair)


@pytest.fixture(
    params=[
        "iptables-nft",
        "iptables-legacy",
        "nftables-nft",
        "userspace-nft",
        "userspace-legacy",
        "userspace-haproxy-nft",
        pytest.param("ipvs-nft", marks=pytest.mark.needs("ip_vs")),
    ],
    scope="module",
)
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    mode, _, variant = request.param.rpartition("-")
    with scene() as made:
        path = variant_path(tmp_path_factory.mktemp(request.param), variant)
        made.at["node"].call(Proxy.start, mode, path)
        yield Running(made, mode)
        made.at["node"].call(Proxy.stop)


@pytest.fixture
def running(proxied: Running) -> Running:
    """Every test begins without Services, and so without connections that are remembered for them."""
    proxied.sync(Snapshot())
    return proxied


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.feature("A4", "A5", "A18", "B7", "B8")
def test_sources_and_backends(running: Running, protocol: Protocol) -> None:
    running.sync(snapshot(service("a", "b", protocol=protocol)))
    asks = running.scene.answers
    own = not running.mode.startswith("userspace")
    client_seen = {NODE, "10.244.1.1"}
    for source, ip, port in (("client", NODE, NODE_PORT), ("client", VIP, PORT), ("node", VIP, PORT)):
        seen = asks(source, ip, port, protocol)
        assert {answer.split()[0] for answer in seen} == {"a", "b"}
        assert {answer.split()[1] for answer in seen} <= client_seen, f"{source} is not masqueraded"
    inside = asks("a", VIP, PORT, protocol)
    assert {answer.split()[0] for answer in inside} == {"a", "b"}
    if own:
        assert f"b {A}" in inside, "a Pod keeps its address towards another"
        assert f"a {A}" not in inside, "a Pod that reaches itself is masqueraded"


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.feature("A2")
def test_pod_to_pod_is_not_translated(running: Running, protocol: Protocol) -> None:
    running.sync(snapshot(service("a", "b", protocol=protocol)))
    assert running.scene.answers("a", B, 8080, protocol, times=2) == {f"b {A}"}
    assert running.scene.answers("client", B, 8080, protocol, times=2) == {f"b {CLIENT}"}


@pytest.mark.feature("A3", "B6")
def test_endpoints_come_and_go(running: Running) -> None:
    running.sync(snapshot(service("a")))
    assert {one.split()[0] for one in running.scene.answers("b", VIP, PORT, times=4)} == {"a"}
    running.sync(snapshot(service("b")))
    assert {one.split()[0] for one in running.scene.answers("a", VIP, PORT, times=4)} == {"b"}
    running.sync(snapshot(service()))
    assert running.scene.answers("a", VIP, PORT, times=1) == {"refused"}
    assert running.scene.answers("client", NODE, NODE_PORT, times=1) == {"refused"}
    running.sync(snapshot(service("a", "b")))
    assert {one.split()[0] for one in running.scene.answers("client", NODE, NODE_PORT)} == {"a", "b"}
    running.sync(snapshot())
    assert running.scene.ask("client", NODE, NODE_PORT) == "refused"


@pytest.mark.feature("A18", "D11")
def test_a_data_plane_that_dies_is_replaced(running: Running) -> None:
    """Modes without one are well whatever happens."""
    node = running.scene.at["node"]
    running.sync(snapshot(service("a")))
    killed = node.call(Proxy.kill_data_plane)
    assert killed == running.mode.startswith("userspace")
    running.sync(snapshot(service("a")))
    assert node.call(Proxy.healthy)
    assert running.scene.ask("client", NODE, NODE_PORT).split()[0] == "a"


@pytest.mark.feature("B2")
def test_affinity_keeps_a_client_with_its_backend(running: Running) -> None:
    running.sync(snapshot(service("a", "b", affinity_seconds=100)))
    assert len(running.scene.answers("client", NODE, NODE_PORT, times=12)) == 1
    running.sync(snapshot(service("a", "b")))
    assert len(running.scene.answers("client", NODE, NODE_PORT, times=12)) == 2


@pytest.mark.feature("B3")
def test_policy_local_keeps_the_source(running: Running) -> None:
    running.sync(snapshot(service("a", "b", external_local=True)))
    seen = running.scene.answers("client", NODE, NODE_PORT)
    kept = (
        "10.244.1.1" if running.mode.startswith("userspace") else CLIENT
    )  # a userspace proxy is the client itself
    assert seen == {f"a {kept}", f"b {kept}"}
    running.sync(snapshot(nobody_here(service("a", "b"))))
    assert running.scene.answers("client", NODE, NODE_PORT, times=1) == {"silence"}
    assert {one.split()[0] for one in running.scene.answers("node", NODE, NODE_PORT)} == {"a", "b"}


@pytest.mark.feature("B1", "B11")
def test_stale_udp_flow_is_forgotten(running: Running) -> None:
    """A client that keeps its source port moves to the new backend; and from none to the first."""
    fixed = {"source_port": 5555}
    running.sync(snapshot(service(protocol=UDP)))
    assert running.scene.ask("client", NODE, NODE_PORT, "UDP", **fixed) in ("refused", "silence")
    for pod in ("a", "b"):
        running.sync(snapshot(service(pod, protocol=UDP)))
        assert running.scene.ask("client", NODE, NODE_PORT, "UDP", **fixed).split()[0] == pod
        assert running.scene.ask("b", VIP, PORT, "UDP", **fixed).split()[0] == pod


def test_what_is_enormous_takes_no_other_service_along(running: Running) -> None:
    """A thousand ports, and a thousand endpoints that nobody has heard of."""
    nobody = Route(
        tuple(Endpoint(f"10.245.{number // 250}.{number % 250 + 1}", 80) for number in range(1000))
    )
    many = service(service="many", cluster_ip="10.96.0.8", node_port=0, cluster=nobody, local=Route())
    ports = [
        replace(many, service="ports", cluster_ip="10.96.0.9", port_name=str(one), port=one, cluster=Route())
        for one in range(1, 501)
    ]
    open_ports = [replace(one, cluster=service("a").cluster, port=one.port + 500) for one in ports]
    open_ports = [replace(one, port_name=f"open-{one.port}") for one in open_ports]
    running.sync(snapshot(service("a"), many, *ports, *open_ports))
    assert running.scene.ask("client", NODE, NODE_PORT).split()[0] == "a"
    assert running.scene.ask("b", "10.96.0.9", 1000).split()[0] == "a"
    assert running.scene.ask("b", "10.96.0.9", 500) == "refused"
