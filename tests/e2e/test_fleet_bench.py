"""The comparison between machines, on a cluster of namespaces in their place: real Pods, packets and exec.

Only the way to the agents is another one: a cluster of this machine needs no ssh.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from live import Kubectl, running, until
from stand_in_fleet import SIZES, TINY, opened

from testbed.bench import between
from testbed.bench.columns import DIRECT, columns
from testbed.bench.environments import FLEET
from testbed.bench.fleet_site import NAMESPACE, FleetSite
from testbed.bench.plan import Plan
from testbed.bench.record import Run, dump_run, load_run
from testbed.lab.cluster import Cluster

MODES = ("iptables", "nftables", "userspace")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running("between", tmp_path_factory.mktemp("between"), "--nodes", "2") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> FleetSite:
    return opened(cluster)


@pytest.fixture(scope="module")
def kept() -> list[Run]:
    """What the collector gave to be kept, after each size."""
    return []


@pytest.fixture(scope="module")
def run(site: FleetSite, kept: list[Run]) -> Run:
    plan = Plan(columns(",".join(MODES)), SIZES, between.KNOWN, TINY)
    return load_run(dump_run(between.Collector(plan, site, kept.append).collect()))


@pytest.mark.parametrize("services", SIZES)
@pytest.mark.parametrize("measure", between.KNOWN)
def test_every_mode_is_measured_beside_direct(run: Run, measure: str, services: int) -> None:
    for mode in (DIRECT, *MODES):
        cell = run.cell(measure, services, mode)
        assert cell, mode
        assert cell.lost == 0
        assert min(cell.samples) > 0
        assert set(cell.blocks) == {0, 1, 2}
        turns = TINY.switches * TINY.turns * (len(MODES) if mode == DIRECT else 1)
        assert len(cell.samples) == turns * TINY.samples


def test_the_services_probed_are_spread_over_the_list(run: Run) -> None:
    assert set(run.cell("first-packet", 4, "iptables").positions) == {"first", "middle", "last"}
    assert set(run.cell("first-packet", 4, DIRECT).positions) == {"only"}


def test_the_run_says_where_it_was_taken(run: Run, site: FleetSite, kept: list[Run]) -> None:
    assert run.environment == FLEET
    assert run.method["client on"] == site.client.name == "node01"
    assert run.method["backends on"] == site.server.name == "node02"
    assert run.facts["kernel"] == f"Linux {site.client.kernel}"
    assert run.facts["iptables"].startswith("iptables v")
    assert all(node.name in run.facts["machines"] for node in site.nodes)
    assert [each.sizes for each in kept] == [(1,), (1, 4)]


def test_all_modes_have_their_turn_in_every_round(run: Run, site: FleetSite) -> None:
    """A mode that is on already is not switched to, but for the first at a new number of Services."""
    modes = site.agents.modes
    assert set(modes) == set(MODES)
    assert sum(one == other for one, other in pairwise(modes)) < len(SIZES)
    assert len(modes) >= TINY.switches * (len(MODES) - 1) * len(SIZES)


def test_nothing_is_left_in_the_cluster(run: Run, cluster: Cluster) -> None:
    kubectl = Kubectl(cluster)
    until(lambda: NAMESPACE not in kubectl("get", "namespaces", "-o", "name"), "the namespace stays")
