"""The underlay: one bridge in the fabric, a veth to every machine, host-gw routes between the nodes.

Machines know one another's hardware addresses beforehand: see `testbed.node.bridge`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from testbed.kernel.netns import Worker
from testbed.lab.machine import Machine
from testbed.model.families import ANYWHERE, Address, mac_of
from testbed.model.topology import LOAD_BALANCERS, UNDERLAYS, ClusterSpec

BRIDGE = "underlay"
INTERFACE = "eth0"


def wire(spec: ClusterSpec, fabric: Machine, machines: Sequence[Machine]) -> None:
    """Join the machines, give each its address, and the nodes a route to every other node's Pod range.

    The outside client reaches load balancers through the last node, a worker.
    """
    macs = {machine.name: mac_of(machine.address) for machine in machines}
    ends = [(machine.name, str(machine.netns), macs[machine.name]) for machine in machines]
    with Worker(fabric.netns) as worker:
        worker.call(_bridge, ends)
    nodes = {node.name: node for node in spec.nodes}
    workers = [(machine, Worker(machine.netns)) for machine in machines]
    pending = []
    for machine, worker in workers:
        if machine.name in nodes:
            others = [node for node in spec.nodes if node.name != machine.name]
            routes = [way for node in others for way in zip(node.pod_cidrs, node.addresses, strict=True)]
        else:
            routes = [(LOAD_BALANCERS[via.version], via) for via in spec.nodes[-1].addresses]
        ways = [(str(network), str(via)) for network, via in routes]
        near = [(ip, macs[one.name]) for one in machines if one is not machine for ip in one.addresses]
        pending.append(worker.start(_configure, machine.addresses, ways, near, machine.name in nodes))
    for waiting in pending:
        waiting.result()
    for _, worker in workers:
        worker.close()


def _bridge(ends: Iterable[tuple[str, str, bytes]]) -> None:
    from pyroute2 import IPRoute

    from testbed.kernel import link, rtnetlink

    with IPRoute() as ip:
        link.bridge(ip, BRIDGE)
        link.up(ip, BRIDGE)
        for name, netns, mac in ends:
            descriptor = os.open(netns, os.O_RDONLY)
            # An interface name has room for 15 bytes; machine names may be longer.
            end = name[:15]
            link.veth(ip, end, INTERFACE, netns=descriptor, peer_mac=mac.hex(":"))
            os.close(descriptor)
            link.port(ip, end, BRIDGE)
            link.up(ip, end)
            rtnetlink.send([rtnetlink.behind(link.index(ip, end), mac)])


def _configure(
    addresses: Sequence[Address],
    routes: Iterable[tuple[str, str]],
    near: Iterable[tuple[Address, bytes]],
    is_node: bool,
) -> None:
    """`near`: the addresses of the other machines, and their hardware's."""
    from pyroute2 import IPRoute

    from testbed.kernel import link, rtnetlink

    with IPRoute() as ip:
        for address in addresses:
            link.address(ip, INTERFACE, f"{address}/{UNDERLAYS[address.version].prefixlen}")
        link.up(ip, INTERFACE)
        eth0 = link.index(ip, INTERFACE)
        rtnetlink.send(rtnetlink.neighbour(eth0, address, mac) for address, mac in near)
        for network, via in routes:
            link.route(ip, network, via=via)
        if is_node:
            # A node's own packet to a ClusterIP is routed before rules translate it: some route must match.
            for address in addresses:
                link.route(ip, ANYWHERE[address.version], dev=INTERFACE)
