"""The underlay: one bridge in the fabric, a veth to every machine, host-gw routes between the nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv4Address

from testbed.kernel.netns import Worker
from testbed.lab.machine import Machine
from testbed.model.topology import LOAD_BALANCERS, UNDERLAY, ClusterSpec

BRIDGE = "underlay"
INTERFACE = "eth0"


def wire(spec: ClusterSpec, fabric: Machine, machines: Sequence[Machine]) -> None:
    """Join the machines, give each its address, and the nodes a route to every other node's Pod range.

    The outside client reaches load balancers through the last node, a worker.
    """
    ends = [(machine.name, str(machine.netns)) for machine in machines]
    with Worker(fabric.netns) as worker:
        worker.call(_bridge, ends)
    routes = [(str(node.pod_cidr), node.address) for node in spec.nodes]
    workers = [(machine, Worker(machine.netns)) for machine in machines]
    pending = []
    for machine, worker in workers:
        assert machine.address is not None
        is_node = any(node.name == machine.name for node in spec.nodes)
        others = [(cidr, via) for cidr, via in routes if is_node and via != machine.address]
        others += [] if is_node else [(str(LOAD_BALANCERS), spec.nodes[-1].address)]
        pending.append(worker.start(_configure, machine.address, others, is_node))
    for waiting in pending:
        waiting.result()
    for _, worker in workers:
        worker.close()


def _bridge(ends: Sequence[tuple[str, str]]) -> None:
    from pyroute2 import IPRoute

    from testbed.kernel import link

    with IPRoute() as ip:
        link.bridge(ip, BRIDGE)
        link.up(ip, BRIDGE)
        for name, netns in ends:
            descriptor = os.open(netns, os.O_RDONLY)
            # An interface name has room for 15 bytes; machine names may be longer.
            end = name[:15]
            link.veth(ip, end, INTERFACE, netns=descriptor)
            os.close(descriptor)
            link.port(ip, end, BRIDGE)
            link.up(ip, end)


def _configure(address: IPv4Address, routes: Sequence[tuple[str, IPv4Address]], is_node: bool) -> None:
    from pyroute2 import IPRoute

    from testbed.kernel import link

    with IPRoute() as ip:
        link.address(ip, INTERFACE, f"{address}/{UNDERLAY.prefixlen}")
        link.up(ip, INTERFACE)
        for cidr, via in routes:
            link.route(ip, cidr, via=str(via))
        if is_node:
            # A node's own packet to a ClusterIP is routed before rules translate it: some route must match.
            link.route(ip, "default", dev=INTERFACE)
