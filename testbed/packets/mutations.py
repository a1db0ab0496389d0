"""Does the matrix catch a faulty proxy? Each fault is given to the agents of a live cluster in turn."""

from __future__ import annotations

import fnmatch
import http.client
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from testbed.errors import TestbedError
from testbed.lab.cluster import Cluster
from testbed.lab.machine import Machine
from testbed.model.cases import Case
from testbed.model.families import listed
from testbed.packets.live import Live
from testbed.packets.matrix import HURRY_SECONDS, Stage
from testbed.packets.mutants import Mutant
from testbed.packets.patience import until
from testbed.packets.sockets import inside
from testbed.packets.verdict import PASSED, Verdict
from testbed.proxy import faults

SYNC_SECONDS = 30.0
"""How long an agent may take to put its faulty rules in."""

HEALTH_PORT = 10256


def hunt(
    cluster: Cluster,
    stage: Stage,
    mode: str,
    cases: Sequence[Case],
    chosen: str = "*",
    live: Sequence[str] = (),
) -> Generator[Mutant, None, None]:
    """Each fault whose name matches `chosen`, in turn, on all nodes.

    Raises TestbedError when an agent does not come up with its fault.
    """
    names = {case.name for case in cases}
    parts = in_parts(cases)
    for fault in fnmatch.filter(faults.names(mode), chosen):
        cluster.set_proxy(mode, command=command(cluster, fault))
        for node in cluster.spec.nodes:
            machine = cluster.machine(node.name)
            if until(lambda machine=machine: synced(machine), SYNC_SECONDS) is None:  # type: ignore[misc]
                raise TestbedError(
                    f"{node.name} has no rules with fault {fault}; its kube-proxy.log tells why"
                )
        faulty = command(cluster, fault)
        alive = Live(cluster, stage, mode, faulty).verdicts() if live else nothing()
        with closing(alive):
            at_rest = (v for part in parts for v in stage.verdicts(mode, part, seconds=HURRY_SECONDS))
            verdicts = chain(at_rest, alive)
            failed = (v for v in verdicts if v.verdict != PASSED and (v.case in live or v.case in names))
            first = next(failed, None)
        yield Mutant(mode, fault, first.case if first else "", first.seen if first else "")


def in_parts(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases as they are asked together: those of one question first, as they catch most."""
    keys = sorted({(case.count > 1, case.family) for case in cases})
    return [[case for case in cases if (case.count > 1, case.family) == key] for key in keys]


def nothing() -> Generator[Verdict, None, None]:
    yield from ()


def command(cluster: Cluster, fault: str) -> str:
    """The agent, with a fault."""
    flags = "--kubeconfig {kubeconfig} --hostname-override {node} --proxy-mode {mode}"
    agent = f"{sys.executable} -m testbed.cli.main kube-proxy {flags}"
    return f"env {faults.VARIABLE}={fault} {agent} --cluster-cidr {listed(cluster.spec.cluster_cidrs)}"


def synced(machine: Machine) -> bool | None:
    """Whether the agent of the machine has put its first rules in, None when not."""
    return health(machine.netns) == 200 or None


def health(netns: Path) -> int:
    """The HTTP status of the agent's /healthz, 0 when nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", HEALTH_PORT, timeout=5)
    try:
        with inside(netns):
            connection.connect()
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
