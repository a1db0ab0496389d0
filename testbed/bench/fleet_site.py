"""The site on a fleet: a client's Pod on one machine, the backends' on another, agents that change modes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from testbed.bench import objects
from testbed.bench.columns import Column
from testbed.bench.place import Place
from testbed.bench.prober import Address
from testbed.bench.sampling import spread
from testbed.bench.stage import BACKENDS, LIST, in_order, listed
from testbed.bench.writing import own_namespace, ready_pods, write_services
from testbed.client import Client
from testbed.errors import TestbedError
from testbed.lab import fleet, fleet_agents
from testbed.lab.distant import COMMAND, Distant
from testbed.lab.fleet import Member
from testbed.model.resources import CONFIG_MAPS, PODS

NAMESPACE = "testbed-bench"
"""Of all that a run writes; a fleet has other users."""

CLIENT = "client"
NOTICE_POLL = 1.0
PATIENCE = 120.0
"""Seconds that a call in a Pod may take: longer than the API server needs to find that a machine is lost."""


class Agents(Protocol):
    """The proxy agents of the machines that a packet passes."""

    def set_proxy(self, mode: str) -> None:
        """Start all anew in `mode`; returns when they were started."""
        ...

    def run(self, node: str, argv: Sequence[str]) -> str:
        """Run `argv` on a machine; what it printed."""
        ...


@dataclass(frozen=True)
class FleetSite:
    """A cluster on machines. `nodes`: all that it has; `client`, `server`: the two that are measured between.

    `command`: what takes calls in a Pod.
    """

    kubeconfig: Path
    nodes: tuple[Member, ...]
    client: Member
    server: Member
    agents: Agents
    command: Sequence[str] = COMMAND

    def pod(self, pod: Mapping[str, Any]) -> Distant:
        """Inside a Pod, as the API gives it."""
        return Distant(self.kubeconfig, pod, self.command, PATIENCE)

    def lost(self, patience: float = 0.0) -> list[Member]:
        """Nodes that were Ready when the run began and no longer are; `patience`: seconds to wait for one."""
        ready = {member.name for member in self.nodes if member.ready}
        end = time.monotonic() + patience
        while True:
            found = [now for now in fleet.members(self.kubeconfig) if now.name in ready and not now.ready]
            if found or time.monotonic() > end:
                return found
            time.sleep(NOTICE_POLL)


def pair(nodes: Sequence[Member]) -> tuple[Member, Member]:
    """The client's machine and the backends': the first two that are Ready, a control plane last.

    Raises TestbedError when there are not two.
    """
    ready = sorted((node for node in nodes if node.ready), key=lambda node: node.control_plane)
    if len(ready) < 2:
        lost = "; ".join(f"{node.name}: {node.why}" for node in nodes if not node.ready)
        raise TestbedError(f"between machines takes two that are Ready ({lost or 'there is but one'})")
    return ready[0], ready[1]


@contextlib.contextmanager
def site(say: Callable[[str], None]) -> Iterator[FleetSite]:
    """This checkout's fleet, for this run alone. Its agents are as they were at exit, whatever happens."""
    nodes = tuple(fleet.members())
    client, server = pair(nodes)
    with fleet_agents.borrowed((client.name, server.name), say) as agents:
        yield FleetSite(fleet.KUBECONFIG, nodes, client, server, agents)


@dataclass
class Scene:
    """What is measured: a place in the client's Pod, backends, Services that grow in number."""

    site: FleetSite
    place: Place
    backends: list[tuple[str, str]]
    addresses: list[str] = field(default_factory=list)
    """ClusterIPs by index of the Service."""

    def grow(self, size: int) -> None:
        """Write Services up to `size`; returns when the last write was acknowledged."""
        indexes = range(len(self.addresses), size)
        writing = write_services(self.site.kubeconfig, indexes, self.backends, 1, NAMESPACE)
        self.addresses += asyncio.run(writing)

    def targets(self, column: Column) -> dict[str, Address]:
        """Where a column probes, by position in the list of Services; the list that is in the kernel now."""
        places = spread(len(self.addresses))
        walked = column.mode == "iptables" and len(places) > 1
        order = in_order(
            self.addresses, listed(self.site.agents.run(self.site.client.name, LIST)) if walked else []
        )
        return {position: (order[index], objects.PORT) for position, index in places.items()}

    @property
    def direct(self) -> dict[str, Address]:
        return {"only": (self.backends[0][0], objects.PORT)}


@contextlib.contextmanager
def staged(site: FleetSite, say: Callable[[str], None]) -> Iterator[Scene]:
    """The Pods, Ready, in a namespace of their own, which is deleted at exit."""
    say(f"Pods: a client on {site.client.name}, backends on {site.server.name}")
    with own_namespace(site.kubeconfig, NAMESPACE):
        pods = asyncio.run(_set_up(site))
        backends = [(str(pods[name]["status"]["podIP"]), site.server.name) for name in _backends()]
        with site.pod(pods[CLIENT]) as place:
            yield Scene(site, place, backends)


def _backends() -> list[str]:
    return [f"nginx-{number}" for number in range(BACKENDS)]


async def _set_up(site: FleetSite) -> dict[str, dict[str, Any]]:
    wanted = [objects.pod(name, site.server.name, "nginx") for name in _backends()]
    wanted.append(objects.pod(CLIENT, site.client.name, "testbed/echo"))
    async with Client.from_kubeconfig(site.kubeconfig) as client:
        await client.create(CONFIG_MAPS, objects.inside(NAMESPACE, objects.config_map()))
        for pod in wanted:
            await client.create(PODS, objects.inside(NAMESPACE, pod))
        return await ready_pods(client, [pod["metadata"]["name"] for pod in wanted], NAMESPACE)
