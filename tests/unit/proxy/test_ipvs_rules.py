"""What IPVS mode drops of a node's own traffic. Pure; the rules as a whole are in golden/."""

from __future__ import annotations

import pytest
from service_cases import service

from testbed.proxy.modes.ipvs_rules import node_shut_out

BALANCER, NODE = "203.0.113.1", "172.30.0.11"


@pytest.mark.parametrize(
    ("ranges", "node_ip", "dropped"),
    [
        ((), NODE, False),
        (("198.51.100.0/24",), NODE, True),
        (("198.51.100.0/24", "172.30.0.0/24"), NODE, False),
        (("0.0.0.0/0",), NODE, False),
        (("172.30.0.0/24",), "", True),
    ],
)
def test_a_node_outside_of_the_source_ranges_is_shut_out(
    ranges: tuple[str, ...], node_ip: str, dropped: bool
) -> None:
    one = service("s", "10.96.0.1", load_balancer_ips=(BALANCER,), source_ranges=ranges)
    rule = f"-s {BALANCER}/32 -m ipvs --vproto 6 --vaddr {BALANCER} --vport 80 -j DROP"
    assert node_shut_out(one, node_ip) == [rule] * dropped
