"""What is measured between machines, as far as it needs none: which two, how it is told and drawn."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from testbed.bench import report
from testbed.bench.between import Collector
from testbed.bench.columns import DIRECT, columns
from testbed.bench.fleet_site import FleetSite, pair
from testbed.bench.plan import QUICK, Plan
from testbed.bench.record import Cell, Results, Run, dump_run, load_run
from testbed.bench.summary import summarise
from testbed.bench.topology import between
from testbed.bench.words import sentences
from testbed.errors import TestbedError
from testbed.lab.fleet import Member

MODES = ("iptables", "ipvs", "nftables", "userspace")
PLANE = Member("plane", "192.0.2.1", True, "", "6.1.0", "", control_plane=True)
ONE, TWO = (Member(name, f"192.0.2.{i}", True, "", "6.1.0", "") for i, name in ((2, "one"), (3, "two")))


def lost(member):
    return replace(member, ready=False, why="it is silent")


def test_the_control_plane_is_measured_only_where_it_must():
    assert pair([PLANE, ONE, TWO]) == (ONE, TWO)
    assert pair([PLANE, lost(ONE), TWO]) == (TWO, PLANE)


def test_one_machine_is_too_few():
    with pytest.raises(TestbedError, match=r"two that are Ready \(one: it is silent; two: it is silent\)"):
        pair([PLANE, lost(ONE), lost(TWO)])
    with pytest.raises(TestbedError, match="there is but one"):
        pair([PLANE])


@pytest.fixture
def run(tmp_path):
    """A run whose samples are known: so many µs for each mode, three rounds."""
    plan = Plan(columns(",".join(MODES)), (1, 100), ("first-packet",), QUICK)
    site = FleetSite(tmp_path, (PLANE, ONE, lost(TWO)), ONE, PLANE, None)
    collector = Collector(plan, site, facts={"engine": "QEMU TCG", "kernel": "Linux 6.1.0"})
    for services in plan.sizes:
        for cost, mode in enumerate((DIRECT, *MODES), 10):
            samples = tuple(cost + i % 3 for i in range(30))
            blocks = tuple(i // 10 for i in range(30))
            places = ("last",) * 30
            collector.cells.append(Cell("fleet", "first-packet", services, mode, samples, blocks, places))
    collector.facts["left out"] = "two: it is silent"
    collector.facts["lost"] = "three: it is gone"
    return load_run(dump_run(collector.run()))


def test_the_report_says_between_which_machines_and_without_which(run):
    said = sentences(summarise(run))
    assert said[0] == (
        "Between machines: from a Pod on one to Pods on plane; both ran one mode after the other, 3 times "
        "each at each number of Services. Without what was lost (two: it is silent; three: it is gone)."
    )
    assert said[1].startswith("First packet, median at 100 Services: iptables 12.0 µs")
    assert any("no hardware virtualisation" in sentence for sentence in said)


def test_the_page_has_the_fleet_s_own_picture_and_method(run):
    page = report.html(report.summaries(Results((run,))), "2026-01-01T00:00:00+00:00")
    assert "On machines of their own (QEMU TCG, Linux 6.1.0)" in page
    assert "Two machines, one mode after the other" in page
    assert report.HOW_BETWEEN in page
    assert report.HOW not in page


def test_the_picture_names_both_machines_and_every_mode(run):
    words = list(ElementTree.fromstring(between(run)).itertext())
    assert {"machine one", "machine plane", *MODES} <= set(words)


def test_only_what_was_asked_for_is_in_the_run(run):
    assert isinstance(run, Run)
    assert run.measures == ("first-packet",)
    assert run.modes == (DIRECT, *MODES)
