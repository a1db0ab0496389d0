"""The whole matrix: a cluster of its own, switched from mode to mode while it lives, every case in each."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from testbed.errors import TestbedError
from testbed.lab.bringup import bring_up
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.lab.network import INTERFACE
from testbed.lab.spec import resolve
from testbed.model.cases import Case
from testbed.model.offers import CLIENT, FIRST, SERVERS, VISITORS, WAYS
from testbed.model.oracle import Sender, World
from testbed.model.topology import LOAD_BALANCERS
from testbed.packets import leftovers, scene
from testbed.packets.live import Live
from testbed.packets.matrix import (
    ANSWER_SECONDS,
    FAILED,
    HURRY_SECONDS,
    NOT_RUN,
    PASSED,
    Place,
    Stage,
    Verdict,
)
from testbed.packets.mutations import Mutant, hunt

NODES = 2
LEFTOVERS = "leftovers"
COMMAND_SECONDS = 60.0
REDIRECTS = "net.ipv4.conf.eth0.accept_redirects"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be verified. `command`: the proxy to check in place of the agent, as for `set_proxy`.

    `faults`: a pattern of names, for `mutate`. `live`: the names of live cases.
    """

    name: str
    modes: tuple[str, ...]
    cases: tuple[Case, ...]
    command: str = ""
    faults: str = "*"
    live: tuple[str, ...] = ()


def verify(plan: Plan, progress: Progress) -> Generator[Verdict, None, None]:
    """Verdicts as they come. The cluster is gone when the iterator ends or is closed, whatever happened.

    Raises UsageError or TestbedError when the cluster or the scene does not come up.
    """
    with _staged(plan, progress) as (cluster, stage):
        for former, mode in zip(("", *plan.modes), plan.modes, strict=False):
            progress(f"{mode}: {len(plan.cases) + len(plan.live)} cases")
            yield from _in_mode(cluster, stage, former, mode, plan, progress)


def mutate(plan: Plan, progress: Progress) -> Generator[Mutant, None, None]:
    """Whether the cases catch each fault that an agent can be given, as far as `verify` otherwise.

    Raises TestbedError too when a case fails without a fault.
    """
    with _staged(plan, progress) as (cluster, stage):
        for former, mode in zip(("", *plan.modes), plan.modes, strict=False):
            progress(f"{mode}: without a fault")
            for verdict in _in_mode(cluster, stage, former, mode, plan, progress):
                if verdict.verdict != PASSED:
                    raise TestbedError(
                        f"{mode} {verdict.case} fails without a fault; `testbed verify` it first"
                    )
            yield from hunt(cluster, stage, mode, plan.cases, plan.faults, plan.live)


@contextmanager
def _staged(plan: Plan, progress: Progress) -> Iterator[tuple[Cluster, Stage]]:
    """A cluster with the scene on it, in the first of the modes."""
    wishes = {
        "name": plan.name,
        "nodes": NODES,
        "proxy_mode": plan.modes[0],
        "proxy_command": plan.command,
    }
    cluster = bring_up(resolve(wishes, plan.modes), progress=progress)
    try:
        progress("Pods and Services")
        world = scene.build(cluster.kubeconfig, cluster.spec, _prepare_reading)
        _prepare(cluster)
        with Stage(world, _places(cluster, world)) as stage:
            yield cluster, stage
    finally:
        cluster.state.destroy()


def _prepare_reading() -> None:
    importlib.import_module("testbed.packets.dissection")


def _in_mode(
    cluster: Cluster, stage: Stage, former: str, mode: str, plan: Plan, progress: Progress
) -> Iterator[Verdict]:
    """Switch from mode `former` ("": it runs already) to `mode` and run the cases."""
    try:
        if former:
            cluster.set_proxy(mode, command=plan.command)
            for node in cluster.spec.nodes:
                yield _leftovers(cluster.machine(node.name), former, mode)
    except (TestbedError, OSError, subprocess.SubprocessError) as error:
        for case in plan.cases:
            yield Verdict.of(mode, case, "", f"no switch to {mode}: {error}", NOT_RUN)
        for name in plan.live:
            yield Verdict(mode, name, "any", "any", "any", "", f"no switch to {mode}: {error}", NOT_RUN)
        return
    unsettled = stage.settle(mode)
    if unsettled:
        progress(f"{mode}: the rules are not in: {unsettled[0]} and {len(unsettled) - 1} others do not work")
    seconds = HURRY_SECONDS if unsettled else ANSWER_SECONDS
    with closing(Live(cluster, stage, mode, plan.command)) as live:
        if plan.live:
            live.begin()
        yield from stage.verdicts(mode, plan.cases, seconds=seconds)
        if plan.live:
            yield from (verdict for verdict in live.verdicts() if verdict.case in plan.live)


def _leftovers(machine: Machine, former: str, mode: str) -> Verdict:
    left = leftovers.remaining(former, lambda argv: _output(machine, argv), mode)
    seen = ", ".join(left[:5]) + f" and {len(left) - 5} more" * (len(left) > 5) if left else "nothing"
    name = f"{LEFTOVERS}/{former}/{machine.name}"
    verdict = FAILED if left else PASSED
    return Verdict(mode, name, machine.name, "any", "any", f"nothing of {former} mode", seen, verdict)


def _output(machine: Machine, argv: Sequence[str]) -> str:
    try:
        return machine.run(argv, check=False, timeout=COMMAND_SECONDS).stdout
    except FileNotFoundError:
        return ""


def _prepare(cluster: Cluster) -> None:
    """What the matrix needs besides a cluster: no ICMP error is held back, and the outside client has a way
    to the Service range and the load balancers, through the first node, and to external addresses."""
    for each in cluster.spec.nodes:
        cluster.machine(each.name).run(
            ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_ratemask=0"]
        )
    first = cluster.machine(FIRST)
    client = cluster.machine(CLIENT)
    ways = [(cluster.spec.service_cidr, first), (LOAD_BALANCERS[4], first)]
    ways += [(network, cluster.machine(node)) for node, network in WAYS.items()]
    for network, node in ways:
        client.run(["ip", "route", "replace", str(network), "via", str(node.address)])
    # What no rule stops goes to the default gateway: it is the client, who sees it.
    for each in cluster.spec.nodes:
        way = ["default", "via", str(cluster.spec.client_address), "dev", INTERFACE]
        cluster.machine(each.name).run(["ip", "route", "replace", *way])
    # Else the node would tell it a shorter way to the backend's node, past the node that the case is about.
    client.run(["sh", "-c", "; ".join(f"ip address add {one}/32 dev {INTERFACE}" for one in VISITORS)])
    client.run(["sysctl", "-qw", "net.ipv4.conf.all.accept_redirects=0", f"{REDIRECTS}=0"])


def _places(cluster: Cluster, world: World) -> dict[str, Place]:
    """The Pods, nodes and client of the scene by the names that cases use."""
    found = {}
    for node in cluster.spec.workers:
        machine = cluster.machine(node.name)
        found[node.name] = Place(machine.netns, Sender(node.address, node.name, host=True))
    for name, node_name in SERVERS.items():
        pod = scene.pod_of(world, name)
        netns = cluster.machine(node_name).pod_netns(pod)
        found[name] = Place(netns, Sender(ip_address(pod["status"]["podIP"]), node_name))
    found[CLIENT] = Place(cluster.machine(CLIENT).netns, Sender(cluster.spec.client_address))
    return found
