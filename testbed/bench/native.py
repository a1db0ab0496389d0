"""The site on this machine, or in the VM: a cluster of namespaces with a node for each column."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.bench import objects
from testbed.bench.columns import Column
from testbed.bench.place import Place, Usage
from testbed.bench.usage import usage
from testbed.kernel.netns import Worker
from testbed.lab import units
from testbed.lab.bringup import bring_up
from testbed.lab.cluster import Cluster, replace_unit
from testbed.model.topology import ClusterSpec, NodeWish, plan
from testbed.node import runtime

CLUSTER = "bench"
COMMANDS = 600.0
"""Seconds that a command on a node may take."""


@dataclass(frozen=True)
class NativeSite:
    """See `testbed.bench.place.Site`."""

    cluster: Cluster

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def spec(self) -> ClusterSpec:
        return self.cluster.spec

    @contextlib.contextmanager
    def pod(self, pod: Mapping[str, Any]) -> Iterator[Place]:
        with Worker(self.cluster.machine(pod["spec"]["nodeName"]).pod_netns(pod)) as worker:
            yield worker

    @contextlib.contextmanager
    def node(self, name: str) -> Iterator[Place]:
        with Worker(self.cluster.machine(name).netns) as worker:
            yield worker

    def run(self, node: str, argv: Sequence[str]) -> str:
        return self.cluster.machine(node).run(argv, timeout=COMMANDS).stdout

    def agent(self, node: str) -> Usage:
        machine = self.cluster.machine(node)
        pids = [
            status["pid"]
            for status in runtime.call({"do": "list"}, machine.init_socket)["list"]
            if status["id"] == units.PROXY
        ]
        return usage(pids, machine.root / "proc")

    def busy(self) -> float:
        return usage(machine.init_pid for machine in self.cluster.machines).cpu

    def hold(self, node: str, held: bool) -> None:
        number = signal.SIGSTOP if held else signal.SIGCONT
        request = {"do": "signal", "id": units.PROXY, "signum": int(number)}
        runtime.call(request, self.cluster.machine(node).init_socket)

    def restart(self, node: str) -> None:
        spec = self.spec
        its = next(one for one in spec.nodes if one.name == node)
        unit = units.kube_proxy(
            spec, its, self.cluster.state.path, spec.mode_of(its), spec.proxy_command_of(its)
        )
        replace_unit(self.cluster.machine(node), units.PROXY, unit)


def cluster_spec(columns: Sequence[Column]) -> ClusterSpec:
    """A node for each column, named as it; one for the backends; the control plane has no proxy."""
    wishes = [
        NodeWish(column.name, column.mode, iptables=column.iptables, proxy_command=column.command)
        for column in columns
    ]
    wishes.append(NodeWish(objects.SERVER_NODE, units.NO_PROXY))
    return plan(ClusterSpec(name=CLUSTER, proxy_mode=units.NO_PROXY), tuple(wishes))


@contextlib.contextmanager
def site(columns: Sequence[Column], say: Callable[[str], None]) -> Iterator[NativeSite]:
    """A cluster that is up; it is gone at exit, whatever happens."""
    cluster = bring_up(cluster_spec(columns), progress=say)
    try:
        yield NativeSite(cluster)
    finally:
        cluster.state.destroy()
