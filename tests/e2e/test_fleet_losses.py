"""Machines that are lost while it is measured between them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from live import running, until
from stand_in_fleet import SIZES, TINY, opened

from testbed.bench import between
from testbed.bench.columns import columns
from testbed.bench.fleet_site import pair
from testbed.bench.plan import Plan
from testbed.bench.record import Run
from testbed.errors import TestbedError
from testbed.lab import fleet
from testbed.lab.cluster import Cluster


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    words = ("--nodes", "3", "--node-monitor-grace-period", "4s")
    with running("failing", tmp_path_factory.mktemp("failing"), *words) as cluster:
        yield cluster


def killing(cluster: Cluster, node: str, kept: list[Run]) -> Callable[[Run], None]:
    """Keeps runs; after the first, a machine is gone."""

    def keep(run: Run) -> None:
        kept.append(run)
        if len(kept) == 1:
            os.kill(cluster.machine(node).init_pid, signal.SIGKILL)

    return keep


def noticed(cluster: Cluster, keep: Callable[[Run], None]) -> Callable[[Run], None]:
    """The same, and the API server has found out that it is gone."""

    def wait(run: Run) -> None:
        keep(run)
        until(lambda: any(not one.ready for one in fleet.members(cluster.kubeconfig)), "nobody is missed")

    return wait


def test_a_machine_that_no_packet_passes_is_named_and_the_run_goes_on(failing: Cluster) -> None:
    kept: list[Run] = []
    plan = Plan(columns("iptables"), SIZES, between.KNOWN, TINY)
    keep = noticed(failing, killing(failing, "node03", kept))
    run = between.Collector(plan, opened(failing), keep).collect()
    assert run.sizes == SIZES
    assert run.facts["lost"].startswith("node03: ")


def test_a_run_that_loses_its_client_s_machine_says_so_and_what_was_whole_is_kept(failing: Cluster) -> None:
    """The cluster of the test before: node03 is left out from the start."""
    kept: list[Run] = []
    site = opened(failing)
    plan = Plan(columns("iptables"), SIZES, between.KNOWN, TINY)
    with pytest.raises(TestbedError, match=r"^node01 was lost \(.*\): .*; run it again to measure between"):
        between.Collector(plan, site, killing(failing, "node01", kept)).collect()
    assert [each.sizes for each in kept] == [(1,)]
    assert kept[0].facts["left out"].startswith("node03: ")
    assert pair(fleet.members(failing.kubeconfig)) == (site.server, site.nodes[0])
