"""A cluster's plan: addresses are given out in order, and what cannot work is refused in one line."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from testbed.errors import UsageError
from testbed.model.families import network, networks
from testbed.model.topology import DEFAULT_SERVICE_CIDR, ClusterSpec, NodeWish, PortRange, plan

V6, SERVICES_V6 = IPv6Network("fd00:10:244::/56"), IPv6Network("fd00:10:96::/112")
NODES = (NodeWish("node01"), NodeWish("node02"))


def test_control_plane_first_then_the_nodes_in_order() -> None:
    spec = plan(ClusterSpec(), NODES)
    assert [(node.name, str(node.address), str(node.pod_cidr)) for node in spec.nodes] == [
        ("controlplane", "172.30.0.10", "10.244.0.0/24"),
        ("node01", "172.30.0.11", "10.244.1.0/24"),
        ("node02", "172.30.0.12", "10.244.2.0/24"),
    ]
    assert spec.api_service_address == IPv4Address("10.96.0.1")
    assert spec.dns_address == IPv4Address("10.96.0.10")


def test_each_family_has_its_addresses() -> None:
    spec = plan(ClusterSpec(), NODES)
    node = spec.nodes[1]
    assert list(map(str, node.addresses)) == ["172.30.0.11", "fd00:172:30::b"]
    assert list(map(str, node.pod_cidrs)) == ["10.244.1.0/24", "fd00:10:244:1::/64"]
    assert list(map(str, spec.dns_addresses)) == ["10.96.0.10", "fd00:10:96::a"]
    only = plan(ClusterSpec(cluster_cidrs=(V6,), service_cidrs=(SERVICES_V6,)), NODES)
    assert (only.families, str(only.nodes[0].address)) == ((6,), "fd00:172:30::a")


@pytest.mark.parametrize(
    ("spec", "wishes", "message"),
    [
        (
            ClusterSpec(service_cidrs=(IPv4Network("10.244.0.0/20"),)),
            NODES,
            "Pod range 10.244.0.0/16 overlaps Service range 10.244.0.0/20; choose ranges that are disjoint",
        ),
        (
            ClusterSpec(cluster_cidrs=(IPv4Network("172.30.0.0/16"),)),
            NODES,
            "Pod range 172.30.0.0/16 overlaps underlay 172.30.0.0/24; choose ranges that are disjoint",
        ),
        (
            ClusterSpec(cluster_cidrs=(IPv4Network("10.1.0.0/23"),), service_cidrs=(DEFAULT_SERVICE_CIDR,)),
            NODES,
            "Pod range 10.1.0.0/23 has room for 2 nodes with a /24 each, 3 are needed; "
            "choose a larger --cluster-cidr",
        ),
        (
            ClusterSpec(service_cidrs=(DEFAULT_SERVICE_CIDR, IPv6Network("fd00:10:244:8::/112"))),
            NODES,
            "Pod range fd00:10:244::/56 overlaps Service range fd00:10:244:8::/112; "
            "choose ranges that are disjoint",
        ),
        (
            ClusterSpec(service_cidrs=(SERVICES_V6,)),
            NODES,
            "Service ranges are IPv6 and Pod ranges IPv4 and IPv6; "
            "give both the same families in the same order",
        ),
        (
            ClusterSpec(cluster_cidrs=(IPv6Network("fd00:10:244::/63"),), service_cidrs=(SERVICES_V6,)),
            NODES,
            "Pod range fd00:10:244::/63 has room for 2 nodes with a /64 each, 3 are needed; "
            "choose a larger --cluster-cidr",
        ),
        (ClusterSpec(), (), "0 nodes asked for; between 1 and 199 are possible"),
        (
            ClusterSpec(),
            (NodeWish("a"), NodeWish("a")),
            "node name 'a' is taken; every machine of a cluster needs its own",
        ),
        (
            ClusterSpec(),
            (NodeWish("client"),),
            "node name 'client' is taken; every machine of a cluster needs its own",
        ),
        (
            ClusterSpec(name="A/b"),
            NODES,
            "cluster name 'A/b' is not a DNS label of at most 32 characters",
        ),
    ],
)
@pytest.mark.feature("A14")
def test_refusals(spec: ClusterSpec, wishes: tuple[NodeWish, ...], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan(spec, wishes)
    assert str(refusal.value) == message


def test_port_range() -> None:
    ports = PortRange.parse("31767-36000")
    assert 31767 in ports
    assert 36000 in ports
    assert 36001 not in ports
    assert str(ports) == "31767-36000"


@pytest.mark.parametrize("text", ["", "30000", "2-1", "0-5", "1-70000", "a-b"])
def test_port_range_refusals(text: str) -> None:
    with pytest.raises(UsageError, match="is not A-B"):
        PortRange.parse(text)


def test_networks_are_one_of_each_family() -> None:
    assert networks("fd00::/64, 10.0.0.0/8", "x") == (IPv6Network("fd00::/64"), IPv4Network("10.0.0.0/8"))
    with pytest.raises(UsageError, match=r"x '10\.0\.0\.0/8,11\.0\.0\.0/8' has two networks of one family"):
        networks("10.0.0.0/8,11.0.0.0/8", "x")


def test_network_names_what_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"Pod range '10\.1\.2\.3/16' is not a network"):
        network("10.1.2.3/16", "Pod range")
