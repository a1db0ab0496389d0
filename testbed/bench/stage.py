"""The stage of a run: a site with its Pods Ready, places to measure from, Services that grow in number."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.bench import objects
from testbed.bench.columns import DIRECT, Column
from testbed.bench.place import Place, Site
from testbed.bench.plan import OTHER_NODE, OUTSIDE, SAME_NODE
from testbed.bench.prober import Address
from testbed.bench.scene import ROOM
from testbed.bench.waiting import first_answer
from testbed.bench.writing import DEADLINE, ready_pods, write_services
from testbed.client import Client
from testbed.errors import TestbedError
from testbed.model.resources import CONFIG_MAPS, ENDPOINT_SLICES, PODS, SERVICES
from testbed.model.topology import CLIENT, CONTROL_PLANE

BACKENDS = 2
FIRST_SPARE = 10
"""Where in the backends' Pod range the addresses begin that endpoints beyond the Pods' own have."""

LIST = ("iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES")
"""What shows the list of Services that the kernel walks in iptables mode."""

TOOLS, CHANGING, NODE_PORT = "z-tools", "z-changing", "z-node-port"
"""Services beside those that are counted; they stand behind them in every list."""


def near(column: str) -> str:
    """The Service whose endpoint is on the column's own node."""
    return f"z-near-{column}"


@dataclass
class Stage:
    """What the measures work on. `places`: by (column, path); `services`: others, by name."""

    site: Site
    columns: tuple[Column, ...]
    endpoints: int
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    server: Place | None = None
    addresses: list[str] = field(default_factory=list)
    """ClusterIPs by index of the Service."""
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    def pod_address(self, name: str) -> str:
        return str(self.pods[name]["status"]["podIP"])

    @property
    def backends(self) -> list[tuple[str, str]]:
        """(address, node) of all that an endpoint may be: the Pods, then spare addresses of theirs."""
        own = [(self.pod_address(f"nginx-{i}"), objects.SERVER_NODE) for i in range(BACKENDS)]
        prefix = own[0][0].rpartition(".")[0]
        spare = [
            (f"{prefix}.{FIRST_SPARE + i}", objects.SERVER_NODE) for i in range(self.endpoints - BACKENDS)
        ]
        return own + spare

    def node_address(self, node: str) -> str:
        return str(next(one for one in self.site.spec.nodes if one.name == node).address)

    def targets(self, column: Column | None, path: str, places: dict[str, int]) -> dict[str, Address]:
        """Where a column probes, by position in the list of Services; None is direct."""
        if column is None:
            address = {
                OTHER_NODE: lambda: self.pod_address("nginx-0"),
                SAME_NODE: lambda: self.pod_address(near(DIRECT)),
                OUTSIDE: lambda: self.node_address(objects.SERVER_NODE),
            }[path]()
            return {"only": (address, objects.PORT)}
        if path == SAME_NODE:
            return {"only": (self.cluster_ip(near(column.name)), objects.PORT)}
        if path == OUTSIDE:
            port = self.services[NODE_PORT]["spec"]["ports"][0]["nodePort"]
            return {"only": (self.node_address(column.name), port)}
        order = in_order(self.addresses, self.listed(column))
        return {position: (order[index], objects.PORT) for position, index in places.items()}

    def cluster_ip(self, service: str) -> str:
        return str(self.services[service]["spec"]["clusterIP"])

    def listed(self, column: Column) -> list[str]:
        """The ClusterIPs as the kernel walks them, in chain KUBE-SERVICES. [] where there is no list."""
        if column.mode != "iptables":
            return []
        return listed(self.site.run(column.name, LIST))


def listed(rules: str) -> list[str]:
    """The ClusterIPs in what LIST prints."""
    return re.findall(r"^-A KUBE-SERVICES .*-d ([0-9.]+)(?:/32)? ", rules, re.MULTILINE)


def in_order(addresses: Sequence[str], rules: Sequence[str]) -> list[str]:
    """`addresses` as the rules list them; by name where a mode has no list (a hash has no first and last)."""
    place = {address: number for number, address in reversed(list(enumerate(rules)))}
    return sorted(addresses, key=place.__getitem__) if place else list(addresses)


@contextlib.contextmanager
def staged(
    site: Site,
    columns: Sequence[Column],
    endpoints: int,
    paths: Sequence[str],
    beside: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[Stage]:
    """The stage on a site: Pods Ready, a place for each column and path. `beside`: of TOOLS, CHANGING."""
    stage = Stage(site, tuple(columns), endpoints)
    say("Pods: backends, and a client on each node")
    asyncio.run(_set_up(stage, paths, beside))
    with contextlib.ExitStack() as stack:
        outside = stack.enter_context(site.node(CLIENT)) if OUTSIDE in paths else None
        for name in (DIRECT, *(column.name for column in columns)):
            inside = stack.enter_context(site.pod(stage.pods[f"client-{name}"]))
            inside.call(make_room)
            for path in paths:
                stage.places[name, path] = inside if path != OUTSIDE or outside is None else outside
        for number in range(BACKENDS):
            backend = stack.enter_context(site.pod(stage.pods[f"nginx-{number}"]))
            backend.call(add_addresses, [a for a, _ in stage.backends[BACKENDS + number :: BACKENDS]])
        if TOOLS in beside:
            stage.server = stack.enter_context(site.pod(stage.pods["tools"]))
        for column in columns:
            stack.enter_context(site.node(column.name)).call(prepare_node, str(site.spec.node_ports))
        yield stage


def make_room() -> None:
    """A client may use nearly all ports, and one in TIME_WAIT again after a second (ip-sysctl)."""
    _put({"net/ipv4/ip_local_port_range": "1024 65535", "net/ipv4/tcp_tw_reuse": "1"})


def prepare_node(node_ports: str) -> None:
    """A node forgets ended connections after a second, lest a burst measures a full conntrack table.

    And it holds back no ICMP error: who is refused is told so at once, however often it tries. A userspace
    proxy has a port for each Service, none of them one of the node ports.
    """
    names = ("time_wait", "close", "last_ack", "fin_wait")
    _put({f"net/netfilter/nf_conntrack_tcp_timeout_{name}": "1" for name in names})
    _put({"net/ipv4/icmp_ratelimit": "0", "net/ipv4/icmp_ratemask": "0"})
    _put({"net/ipv4/ip_local_port_range": ROOM, "net/ipv4/ip_local_reserved_ports": node_ports})


def _put(values: dict[str, str]) -> None:
    for name, value in values.items():
        with contextlib.suppress(FileNotFoundError, PermissionError), open(f"/proc/sys/{name}", "w") as file:
            file.write(value)


def add_addresses(addresses: Sequence[str]) -> None:
    """More addresses for this Pod."""
    lines = "".join(f"addr replace {address}/32 dev eth0\n" for address in addresses)
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)


async def _set_up(stage: Stage, paths: Sequence[str], beside: Sequence[str]) -> None:
    """Create all Pods, wait until they are Ready, then the Services beside those that are counted."""
    names = (DIRECT, *(column.name for column in stage.columns))
    wanted = [objects.pod(f"nginx-{i}", objects.SERVER_NODE, "nginx") for i in range(BACKENDS)]
    wanted += [objects.pod(f"client-{name}", _node(name), "testbed/echo") for name in names]
    if TOOLS in beside:
        wanted.append(objects.pod("tools", objects.SERVER_NODE, "testbed/echo"))
    if SAME_NODE in paths:
        wanted += [objects.pod(near(name), _node(name), "nginx") for name in names]
    if OUTSIDE in paths:
        wanted.append(objects.pod("nginx-host", objects.SERVER_NODE, "nginx", host_network=True))
    async with Client.from_kubeconfig(stage.site.kubeconfig) as client:
        await client.create(CONFIG_MAPS, objects.config_map())
        for pod in wanted:
            await client.create(PODS, pod)
        stage.pods = await ready_pods(client, [pod["metadata"]["name"] for pod in wanted])
        if TOOLS in beside:
            await _beside(client, stage, TOOLS, [(stage.pod_address("tools"), objects.SERVER_NODE)])
        if CHANGING in beside:
            await _beside(client, stage, CHANGING, [])
        if OUTSIDE in paths:
            await _beside(client, stage, NODE_PORT, stage.backends[:1])
        if SAME_NODE in paths:
            for column in stage.columns:
                address = stage.pod_address(near(column.name))
                await _beside(client, stage, near(column.name), [(address, column.name)])


async def _beside(client: Client, stage: Stage, name: str, backends: list[tuple[str, str]]) -> None:
    ports = objects.TOOLS if name == TOOLS else objects.HTTP
    kind = "NodePort" if name == NODE_PORT else "ClusterIP"
    stage.services[name] = await client.create(SERVICES, objects.service(name, ports, kind))
    await client.create(ENDPOINT_SLICES, objects.slice_(name, backends, ports))


def _node(column: str) -> str:
    """The node that a column's client is on. Direct probes from the one node that has no proxy."""
    return CONTROL_PLANE if column == DIRECT else column


async def grow(stage: Stage, size: int) -> dict[str, float]:
    """Write Services up to `size`, many in flight: column → seconds until the last of them answers there.

    Direct's are the seconds until the last write was acknowledged: no proxy is in them.
    """
    indexes = range(len(stage.addresses), size)
    start = time.perf_counter()
    stage.addresses += await write_services(stage.site.kubeconfig, indexes, stage.backends, stage.endpoints)
    took = {DIRECT: time.perf_counter() - start}
    target = (stage.addresses[-1], objects.PORT)
    waits = {
        column.name: stage.places[column.name, OTHER_NODE].start(first_answer, target, DEADLINE)
        for column in stage.columns
    }
    for name, wait in waits.items():
        answered = wait.result(DEADLINE + 30)
        if answered is None:
            raise TestbedError(
                f"{name}: Service {len(stage.addresses)} of {size} does not answer after {DEADLINE:g} s; "
                f"the log /var/log/kube-proxy.log of node {name} says why"
            )
        took[name] = answered - start
    return took
