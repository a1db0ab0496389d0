"""The matrix on a cluster of its own: machines that are namespaces, made for it and taken down."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.kernel import features
from testbed.lab import rootfs
from testbed.lab.bringup import bring_up
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.lab.network import INTERFACE
from testbed.lab.spec import resolve
from testbed.model.offers import CLIENT, OFFERS, SERVERS, ZONES
from testbed.model.oracle import ZONE, World
from testbed.model.topology import ClusterSpec
from testbed.packets import scene, ways
from testbed.packets.columns import Column, own_variant
from testbed.packets.ground import Here
from testbed.packets.matrix import Place, Stage


@dataclass(frozen=True)
class Namespaces:
    """See `testbed.packets.site.Site`."""

    cluster: Cluster

    @property
    def spec(self) -> ClusterSpec:
        return self.cluster.spec

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def sctp(self) -> bool:
        return features.has("sctp")

    @property
    def variant(self) -> str:
        return own_variant()

    def machine(self, name: str) -> Machine:
        return self.cluster.machine(name)

    def set_proxy(
        self, mode: str, *, command: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        self.cluster.set_proxy(mode, command=command, environment=environment)

    def choose_iptables(self, variant: str) -> None:
        self.cluster.set_proxy("none")
        for node in self.spec.nodes:
            machine = self.cluster.machine(node.name)
            machine.run([sys.executable, "-m", "testbed.cli.main", "kube-proxy", "--cleanup"])
            rootfs.choose_iptables(variant, machine.root)


@contextmanager
def staged(
    name: str,
    columns: Sequence[Column],
    command: str,
    progress: Callable[[str], None],
    services: Collection[str] = OFFERS,
) -> Iterator[tuple[Namespaces, Stage]]:
    """A cluster with the scene on it, in the first of the modes, or with the proxy `command`."""
    wishes = {
        "name": name,
        "nodes": [{"name": node, "labels": {ZONE: zone}} for node, zone in ZONES.items()],
        "proxy_mode": columns[0].mode,
        "proxy_command": command,
        "iptables": columns[0].variant or "auto",
    }
    cluster = bring_up(resolve(wishes, tuple(column.mode for column in columns)), progress=progress)
    try:
        progress("Pods and Services")
        site = Namespaces(cluster)
        world = scene.build(site.kubeconfig, site.spec, site.sctp, _prepare_reading, services)
        stands = places(cluster, world)
        ways.prepare(
            site, world, stands, ways.Links(dict.fromkeys((*ZONES, CLIENT), INTERFACE), ("default",))
        )
        with Stage(world, stands) as stage:
            yield site, stage
    finally:
        cluster.state.destroy()


def _prepare_reading() -> None:
    importlib.import_module("testbed.packets.dissection")


def places(cluster: Cluster, world: World) -> dict[str, Place]:
    """The Pods, nodes and client of the scene by the names that cases use."""

    def ground(name: str) -> Here:
        home = SERVERS.get(name)
        return Here(
            cluster.machine(home).pod_netns(scene.pod_of(world, name))
            if home
            else cluster.machine(name).netns
        )

    names = (*(node.name for node in cluster.spec.workers), *SERVERS, CLIENT)
    return {name: Place(ground(name), ways.senders(world, name)) for name in names}
