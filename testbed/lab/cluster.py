"""A handle on a running cluster: its machines, its kubeconfig, its proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError, UsageError
from testbed.lab import units
from testbed.lab.machine import FABRIC, Machine
from testbed.lab.state import State
from testbed.model.topology import CLIENT, ClusterSpec
from testbed.node import runtime
from testbed.node.process import Process, Status

ADMIN_KUBECONFIG = "admin.kubeconfig"
INSIDE_KUBECONFIG = "inside.kubeconfig"
"""As the admin one, with the address that works inside the cluster's namespaces."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up. `api_port` is its API server's port on the host's loopback."""

    state: State
    spec: ClusterSpec
    api_port: int

    @classmethod
    def open(cls, name: str = "testbed") -> Cluster:
        """Raises UsageError when there is no cluster of that name."""
        state = State.open(name)
        return cls(state, *state.read_spec())

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for programs on the host."""
        return self.state.path / ADMIN_KUBECONFIG

    def machine(self, name: str) -> Machine:
        """A machine by name: a node, `client` or `fabric`. Raises UsageError for another name,
        TestbedError when it is not running."""
        records = self.state.machines()
        if name not in records:
            known = ", ".join(machine for machine in records if machine != FABRIC)
            raise UsageError(f"cluster {self.spec.name!r} has no machine {name!r}; it has {known}")
        if not records[name].alive():
            raise TestbedError(f"machine {name} is not running; `testbed down --name {self.spec.name}`")
        addresses = {node.name: node.addresses for node in self.spec.nodes}
        addresses[CLIENT] = self.spec.client_addresses
        return Machine(name, records[name].pid, addresses.get(name, ()))

    @property
    def machines(self) -> list[Machine]:
        """The nodes, control plane first, then the outside client."""
        return [self.machine(name) for name in (*(node.name for node in self.spec.nodes), CLIENT)]

    def components(self) -> dict[str, list[Status]]:
        """The components of every machine that runs, by machine name."""
        found: dict[str, list[Status]] = {}
        for name, record in self.state.machines().items():
            if name == FABRIC or not record.alive():
                continue
            with suppress(OSError, TestbedError):
                statuses = runtime.call({"do": "list"}, Machine(name, record.pid).init_socket)["list"]
                found[name] = [Status(**s) for s in statuses if s["id"].startswith("kube")]
        return found

    def set_proxy(
        self,
        mode: str,
        *,
        nodes: Iterable[str] | None = None,
        command: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Restart the proxies (of all nodes, or of `nodes`) in `mode`, or as the user's own `command`.

        `environment` is what the agent gets besides its machine's. Returns when they have been started, not
        when their rules are in.
        """
        chosen = set(nodes) if nodes is not None else {node.name for node in self.spec.nodes}
        for node in self.spec.nodes:
            if node.name in chosen:
                replace_unit(
                    self.machine(node.name),
                    units.PROXY,
                    None
                    if mode == units.NO_PROXY
                    else units.kube_proxy(self.spec, node, self.state.path, mode, command, environment),
                )


def replace_unit(machine: Machine, id: str, process: Process | None) -> None:
    """Stop a unit with SIGTERM, then start `process` in its place; None leaves it stopped."""
    with suppress(runtime.RuntimeRefusal):
        _stop(machine, id)
    if process is not None:
        start_unit(machine, process)


def start_unit(machine: Machine, process: Process) -> None:
    runtime.call({"do": "start", "process": process.to_json()}, machine.init_socket)


def _stop(machine: Machine, id: str, grace: float = 10.0) -> None:
    """Ask the unit to end, wait `grace` seconds at most, then have init kill and forget it."""
    with suppress(TimeoutError):
        runtime.stop(id, machine.init_socket, grace)
    runtime.call({"do": "remove", "id": id}, machine.init_socket)
