"""Bring a cluster up; and if that fails or is interrupted, leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from testbed.client import ApiError, Client
from testbed.errors import TestbedError, UsageError
from testbed.lab import components, credentials, manifests, network, units
from testbed.lab.cluster import ADMIN_KUBECONFIG, Cluster, start_unit
from testbed.lab.machine import FABRIC, Birth, Blueprint, boot
from testbed.lab.state import State
from testbed.model.resources import NODES
from testbed.model.topology import API_PORT, CLIENT, ClusterSpec
from testbed.node.process import Process

READY_TIMEOUT = 180.0
POLL = 0.05

Progress = Callable[[str], None]


def bring_up(
    spec: ClusterSpec,
    *,
    api_port: int = 0,
    progress: Progress = lambda _: None,
) -> Cluster:
    """Bring up `spec` and return when every node is Ready.

    `api_port` is the API server's port on the host's loopback; 0 takes 6443, or any free one.
    Raises UsageError (no root, name or port taken) or TestbedError; then nothing is left behind.
    """
    if os.geteuid() != 0:
        raise UsageError("namespaces need root: run this as root (sudo), or `testbed vm run -- testbed up`")
    components.load()
    listener = _listener(api_port)
    state = State.create(spec.name)
    try:
        with listener:
            births = _build(state, spec, listener, progress)
        cluster = Cluster.open(spec.name)
        progress("waiting for the nodes")
        asyncio.run(_until_ready(cluster))
        for birth in births:
            birth.commit()
        return cluster
    except BaseException:
        state.destroy()
        raise


def _build(state: State, spec: ClusterSpec, listener: socket.socket, progress: Progress) -> list[Birth]:
    port = listener.getsockname()[1]
    gc.collect()
    gc.freeze()
    progress(f"machines: {', '.join(node.name for node in spec.nodes)}, {CLIENT}")
    births = [boot(state, blueprint) for blueprint in _blueprints(spec, listener.fileno())]
    credentials.issue(state, spec, port)
    state.write_spec(spec, port)
    for birth in births:
        birth.ready()
    cluster = Cluster.open(spec.name)
    network.wire(spec, cluster.machine(FABRIC), cluster.machines)
    progress("components")
    chosen = _units(spec, state.path, listener.fileno())
    control_plane = [unit for _, unit in chosen[:2]]
    manifests.write(cluster.machine(spec.control_plane.name), control_plane)
    for machine, unit in chosen:
        start_unit(cluster.machine(machine), unit)
    return births


def _blueprints(spec: ClusterSpec, descriptor: int) -> list[Blueprint]:
    hosts = [(node.name, str(address)) for node in spec.nodes for address in node.addresses]
    hosts += [(CLIENT, str(address)) for address in spec.client_addresses]
    nodes = [
        Blueprint(
            node.name,
            hosts,
            spec.iptables_of(node).removeprefix("auto"),
            (descriptor,) if node == spec.control_plane else (),
        )
        for node in spec.nodes
    ]
    return [Blueprint(FABRIC, ()), *nodes, Blueprint(CLIENT, hosts)]


def _units(spec: ClusterSpec, state: Path, descriptor: int) -> list[tuple[str, Process]]:
    control = spec.control_plane.name
    found = [
        (control, units.apiserver(spec, state, descriptor)),
        (control, units.controller_manager(spec, state)),
    ]
    for node in spec.nodes:
        found.append((node.name, units.kubelet(spec, node, state)))
        mode = spec.mode_of(node)
        if mode != units.NO_PROXY:
            unit = units.kube_proxy(spec, node, state, mode, spec.proxy_command_of(node))
            found.append((node.name, unit))
    return found


def _listener(port: int) -> socket.socket:
    """A listening socket on the host's loopback. UsageError when the port asked for is taken."""
    candidates = [port] if port else [API_PORT, 0]
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
            listener.listen(128)
            return listener
        except OSError:
            listener.close()
    raise UsageError(f"port {port} on 127.0.0.1 is taken; choose another --api-port, or leave it out")


async def _until_ready(cluster: Cluster) -> None:
    wanted = {node.name for node in cluster.spec.nodes}
    deadline = time.monotonic() + READY_TIMEOUT
    async with Client.from_kubeconfig(cluster.state.path / ADMIN_KUBECONFIG) as client:
        ready: set[str] = set()
        while ready != wanted:
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(wanted - ready))
                raise TestbedError(f"not Ready after {READY_TIMEOUT:g} s: {missing}; {_last_words(cluster)}")
            _check_components(cluster)
            with contextlib.suppress(ApiError):
                listing = await client.list(NODES)
                ready = {node["metadata"]["name"] for node in listing.items if _is_ready(node)}
            if ready != wanted:
                await asyncio.sleep(POLL)


def _is_ready(node: dict[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _check_components(cluster: Cluster) -> None:
    """A component that ends with code 2 was started wrongly: no use in waiting."""
    for machine, statuses in cluster.components().items():
        for status in statuses:
            if status.exit_code == UsageError.exit_code:
                raise UsageError(_last_line(cluster, machine, status.id))


def _last_words(cluster: Cluster) -> str:
    words = [
        f"{machine}/{status.id}: {_last_line(cluster, machine, status.id)}"
        for machine, statuses in cluster.components().items()
        for status in statuses
        if status.restarts or not status.running
    ]
    return "; ".join(words) or "every component runs; try again with more CPU"


def _last_line(cluster: Cluster, machine: str, unit: str) -> str:
    log = cluster.state.path / "logs" / machine / f"{unit}.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "its log is empty"
