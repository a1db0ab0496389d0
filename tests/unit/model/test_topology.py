"""A cluster's plan: addresses are given out in order, and what cannot work is refused in one line."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from testbed.errors import UsageError
from testbed.model.families import network
from testbed.model.topology import DEFAULT_SERVICE_CIDR, ClusterSpec, NodeWish, PortRange, plan

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


def test_network_names_what_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"Pod range '10\.1\.2\.3/16' is not a network"):
        network("10.1.2.3/16", "Pod range")
