"""The matrix on a fleet: nodes are machines with kernels of their own, reached by the API and by ssh.

Who sends, captures and answers runs in Pods, called through the API: in those of the scene, and in one on the
network of each machine. The control plane's machine, without a proxy, is the client outside.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.client import Client
from testbed.errors import TestbedError, UsageError
from testbed.lab import fleet, fleet_spec, fleet_ssh
from testbed.lab.distant import Distant
from testbed.lab.fleet_agents import Agents, borrowed
from testbed.model.conditions import condition
from testbed.model.offers import CLIENT, SERVERS, ZONES
from testbed.model.oracle import ZONE, World
from testbed.model.resources import NODES, PODS
from testbed.packets import scene, ways
from testbed.packets.columns import Column, variant_in
from testbed.packets.ground import There
from testbed.packets.matrix import Place, Stage
from testbed.packets.patience import be_patient, patience

MODES = ("iptables", "ipvs", "nftables", "userspace")
"""Those that are verified unless told otherwise."""
QUIET_PORT = 49_999
"""Where the Pods on the machines' own networks listen, since an echo server must somewhere."""
LOOP = "import time; t = time.perf_counter(); sum(range(1_000_000)); print(time.perf_counter() - t)"
READY_SECONDS = 60.0

Object = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Host:
    """A machine by ssh, as `testbed.packets.site.Machine`."""

    name: str
    machine: fleet_ssh.Machine

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        done = self.machine.attempt(argv, options.get("timeout", fleet_ssh.SECONDS))
        if options.get("check", True):
            done.check_returncode()
        return done


@dataclass(frozen=True)
class Fleet:
    """See `testbed.packets.site.Site`. `machines`: the nodes', and the client's."""

    spec: fleet_spec.FleetSpec
    kubeconfig: Path
    machines: Mapping[str, fleet_ssh.Machine]
    variant: str
    sctp: bool

    def machine(self, name: str) -> Host:
        return Host(name, self.machines[name])

    def set_proxy(
        self, mode: str, *, command: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        Agents({name: self.machines[name] for name in ZONES}).set_proxy(mode)

    def choose_iptables(self, variant: str) -> None:
        raise UsageError(f"the fleet's `iptables` are {self.variant}: leave iptables-{variant} out")


@contextmanager
def staged(
    columns: Sequence[Column], services: Collection[str], progress: Progress
) -> Iterator[tuple[Fleet, Stage]]:
    """The scene on the fleet that is up, its nodes in the first of the modes. All is as before at the end.

    Raises UsageError when the fleet is not up, or not of the machines that the matrix needs.
    """
    with ExitStack() as stack:
        site = opened()
        stack.enter_context(borrowed((site.spec.control_plane.name, *ZONES), progress))
        slow = _slowness([site.machines[name] for name in (CLIENT, *ZONES)])
        be_patient(slow)
        progress(f"machines: {', '.join(site.machines)}; {slow:.0f} times slower than this one")
        links = ways.Links({name: _link(site, name) for name in (CLIENT, *ZONES)}, ways.beyond(site.spec))
        for name, link in links.uplinks.items():
            stack.enter_context(_sysctls(site.machines[name], link))
        stack.enter_context(_labelled(site.kubeconfig))
        site = replace(site, spec=fleet_spec.read(site.kubeconfig))  # with the labels
        # No proxy, and no rule of one, at the client.
        site.machines[CLIENT].run(["sh", "-c", "systemctl stop kube-proxy && testbed kube-proxy --cleanup"])
        progress(f"all nodes in {columns[0].name} mode")
        site.set_proxy(columns[0].mode)
        progress("Pods and Services")
        stack.callback(scene.clear, site.kubeconfig)
        world = scene.build(site.kubeconfig, site.spec, site.sctp, names=services)
        places = {name: stack.enter_context(_place(site, world, name, slow)) for name in _names()}
        stack.callback(ways.clear, site, links)
        ways.prepare(site, world, places, links)
        yield site, stack.enter_context(Stage(world, places))


def opened() -> Fleet:
    """The fleet of this checkout, as it is now. Raises UsageError or TestbedError."""
    fleet.members()
    spec = fleet_spec.read(fleet.KUBECONFIG)
    ready = [node.name for node in spec.workers]
    if missing := [name for name in ZONES if name not in ready]:
        raise UsageError(
            f"the matrix needs nodes {' and '.join(ZONES)} beside the control plane; "
            f"not Ready here: {', '.join(missing)} (testbed fleet status)"
        )
    known = fleet_ssh.machines(fleet.inventory(None))
    machines = {CLIENT: known[spec.control_plane.name], **{name: known[name] for name in known}}
    variants = {variant_in(machines[name].run(["iptables", "--version"])) for name in ZONES}
    if len(variants) > 1:
        raise UsageError("nodes differ in what `iptables` is, legacy and nft: update-alternatives --config")
    sctp = all(
        machines[name].attempt(["grep", "-qw", "SCTP", "/proc/net/protocols"]).returncode == 0
        for name in ZONES
    )
    return Fleet(spec, fleet.KUBECONFIG, machines, variants.pop(), sctp)


def facts() -> dict[str, str]:
    """What figures and verdicts of the fleet depend on."""
    kernels: dict[str, list[str]] = {}
    for member in fleet.members():
        kernels.setdefault(member.kernel, []).append(member.name)
    told = "; ".join(f"{kernel} on {', '.join(names)}" for kernel, names in kernels.items())
    return {"name": "fleet", "kernel": told, "iptables": f"iptables ({opened().variant})"}


def _names() -> tuple[str, ...]:
    return (*ZONES, *SERVERS, CLIENT)


def _slowness(machines: Sequence[fleet_ssh.Machine]) -> float:
    """How many times longer a loop takes on the slowest of them than here; 1 at least."""
    here = float(subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True).stdout)
    with ThreadPoolExecutor(len(machines)) as threads:
        there = max(map(float, threads.map(lambda machine: machine.run(["python3", "-c", LOOP]), machines)))
    return max(1.0, there / here)


@contextmanager
def _sysctls(machine: fleet_ssh.Machine, link: str) -> Iterator[None]:
    """What the matrix sets, as before at the end."""
    names = (*ways.UNLIMITED, *ways.FORGETFUL, *ways.of_client(link))
    before = machine.run(["sysctl", *names]).replace(" = ", "=").split()
    try:
        yield
    finally:
        machine.run(["sysctl", "-qw", *before])


@contextmanager
def _labelled(kubeconfig: Path) -> Iterator[None]:
    """Each node in a zone of its own."""
    asyncio.run(_label(kubeconfig, ZONES))
    try:
        yield
    finally:
        asyncio.run(_label(kubeconfig, dict.fromkeys(ZONES)))


async def _label(kubeconfig: Path, zones: Mapping[str, str | None]) -> None:
    async with Client.from_kubeconfig(kubeconfig) as client:
        for node, zone in zones.items():
            await client.patch(NODES, node, None, {"metadata": {"labels": {ZONE: zone}}})


@contextmanager
def _place(site: Fleet, world: World, name: str, slow: float) -> Iterator[Place]:
    """A Pod of the scene, or one on the network of a machine."""
    pod = scene.pod_of(world, name) if name in SERVERS else asyncio.run(_on_host(site, name))
    with Distant(site.kubeconfig, pod) as distant:
        distant.call(be_patient, slow)
        yield Place(There(distant), ways.senders(world, name))


async def _on_host(site: Fleet, name: str) -> Object:
    """A Pod on the network of a machine, that is Ready."""
    node = site.spec.control_plane.name if name == CLIENT else name
    container = {"name": "echo", "image": "testbed/echo", "args": [f"--tcp={QUIET_PORT}"]}
    manifest = {
        "metadata": {"name": f"on-{name}", "namespace": scene.NAMESPACE},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "containers": [container],
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    async with Client.from_kubeconfig(site.kubeconfig) as client:
        await client.create(PODS, manifest)
        deadline = time.monotonic() + patience(READY_SECONDS)
        while True:
            pod = await client.get(PODS, f"on-{name}", scene.NAMESPACE)
            if (condition(pod, "Ready") or {}).get("status") == "True":
                return pod
            if time.monotonic() > deadline:
                raise TestbedError(f"Pod on-{name} is not Ready: kubectl describe -n {scene.NAMESPACE} pod")
            await asyncio.sleep(patience(scene.POLL))


def _link(site: Fleet, name: str) -> str:
    """The link of a machine that leads to the others."""
    own = site.spec.control_plane.name if name == CLIENT else name
    other = next(node for node in site.spec.nodes if node.name != own)
    words = site.machines[name].run(["ip", "-o", "route", "get", str(other.address)]).split()
    return words[words.index("dev") + 1]
