"""A cluster of namespaces in the place of a fleet. Only its agents are reached another way: without ssh."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from testbed.bench.fleet_site import FleetSite, pair
from testbed.bench.plan import Profile
from testbed.errors import TestbedError
from testbed.lab import fleet
from testbed.lab.cluster import Cluster

CALLS = (sys.executable, "-m", "testbed.cli.main", "fleet", "calls")
SIZES = (1, 4)
TINY = Profile("tiny", SIZES, 1, 6, 1, 0.1, 1, 1, switches=3, turns=1)


@dataclass
class Here:
    """The agents of a cluster's nodes; what modes they were given, in order."""

    cluster: Cluster
    nodes: tuple[str, ...]
    modes: list[str] = field(default_factory=list)

    def set_proxy(self, mode: str) -> None:
        """A machine that is gone is told of as by ssh."""
        self.modes.append(mode)
        try:
            self.cluster.set_proxy(mode, nodes=self.nodes)
        except OSError as error:
            raise TestbedError(f"no answer: {error}") from error

    def run(self, node: str, argv: Sequence[str]) -> str:
        return self.cluster.machine(node).run(argv).stdout


def opened(cluster: Cluster) -> FleetSite:
    nodes = fleet.members(cluster.kubeconfig)
    client, server = pair(nodes)
    agents = Here(cluster, (client.name, server.name))
    return FleetSite(cluster.kubeconfig, tuple(nodes), client, server, agents, CALLS)
