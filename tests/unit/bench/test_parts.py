"""What a session measures where, and by which clock."""

import json

import pytest

from testbed.bench import collect, environments, parts
from testbed.bench.columns import DIRECT
from testbed.bench.parts import Part
from testbed.bench.plan import OTHER_NODE, OUTSIDE, QUICK, STANDARD, Plan
from testbed.errors import UsageError
from testbed.lab import fleet
from testbed.lab.fleet import Member

NODES = [
    Member("controlplane", "192.0.2.1", True, "", "6.1.0", "", control_plane=True),
    Member("node01", "192.0.2.2", True, "", "6.1.0", ""),
    Member("node02", "192.0.2.3", False, "Kubelet stopped posting", "6.1.0", ""),
]


@pytest.fixture(autouse=True)
def standing(monkeypatch):
    """What this checkout's fleet answers: at first there is none. Returns how to have another."""

    def answer(nodes, why=""):
        monkeypatch.setattr(fleet, "standing", lambda: (nodes, why))
        monkeypatch.setattr(fleet, "members", lambda: nodes)

    answer([])
    return answer


@pytest.fixture
def without_ipvs(monkeypatch):
    """A machine whose kernel has no IPVS and whose VMs are emulated."""
    monkeypatch.setattr(environments, "here", lambda: "native")
    monkeypatch.setattr(
        environments, "lacking", lambda columns: {c.name: "ip_vs" for c in columns if c.mode == "ipvs"}
    )
    monkeypatch.setattr("testbed.vm.translates", lambda: True)


def shape(*words, **more):
    found = parts.parts(*words, **more)
    return {name: ([column.name for column in part.columns], part.sizes) for name, part in found.items()}


@pytest.mark.usefixtures("without_ipvs")
def test_where_a_vm_is_emulated_instructions_are_counted_as_well():
    assert shape(None, [], "auto", "auto", QUICK) == {
        "native": (["iptables", "nftables", "userspace"], (1, 100, 1000)),
        "instructions": (
            ["iptables-legacy", "iptables-nft", "ipvs", "nftables", "userspace"],
            (1, 100, 1000),
        ),
    }
    assert list(shape(None, [], "auto", "auto", STANDARD)) == ["native", "vm", "instructions"]
    assert shape("ipvs,userspace", [], "wall", "auto", QUICK) == {
        "native": (["userspace"], (1, 100, 1000)),
        "vm": (["ipvs", "userspace"], (100,)),
    }
    assert list(shape("iptables,userspace", [], "auto", "auto", QUICK)) == ["native"]
    assert list(shape(None, [], "auto", "vm", QUICK)) == ["vm"]


@pytest.mark.usefixtures("without_ipvs")
def test_what_is_asked_for_counts_everywhere():
    found = shape("ipvs,userspace", ["kp=/opt/kp"], "auto", "auto", STANDARD, (1, 7))
    assert found == {
        "native": (["userspace", "kp"], (1, 7)),
        "vm": (["ipvs", "userspace", "kp"], (1, 7)),
        "instructions": (["ipvs", "userspace"], (1, 7)),
    }


def test_hardware_s_own_vm_is_timed_only(without_ipvs, monkeypatch):
    monkeypatch.setattr("testbed.vm.translates", lambda: False)
    assert list(shape(None, [], "auto", "auto", QUICK)) == ["native", "vm"]
    found = parts.parts(None, [], "auto", "auto", QUICK)
    assert (found["vm"].profile, found["vm"].sizes) == (QUICK, QUICK.sizes)


@pytest.mark.usefixtures("without_ipvs")
def test_where_a_vm_is_emulated_less_is_taken_there_and_enough_for_p99():
    found = parts.parts(None, [], "wall", "auto", QUICK)
    assert found["native"].profile == QUICK
    less = found["vm"].profile
    assert less.translated
    assert less.rounds * less.samples // 2 >= 100  # half of them may be warm-up
    names = {m for taking in collect.TAKINGS if taking.at(100, (100,), less) for m in taking.names()}
    assert {"first-packet", "keep-alive", "network-programming"} <= names < set(collect.KNOWN)
    assert STANDARD.where_translated().sizes == STANDARD.sizes


def test_a_part_s_plan_has_the_points_that_are_asked_for():
    (part,) = parts.parts("iptables,userspace", [], "wall", "native", QUICK).values()
    point = {"mode": "userspace", "services": 100, "measure": "bulk", "endpoints": 1, "path": "other-node"}
    plan = part.plan([point, {**point, "mode": DIRECT, "services": 1}], {(1, 1)})
    assert [column.name for column in plan.columns] == ["userspace"]
    assert (plan.sizes, plan.measures, plan.paths, plan.done) == (
        (1, 100),
        ("bulk",),
        ("other-node",),
        ((1, 1),),
    )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert part.plan([{**point, "mode": DIRECT}]).columns == part.columns


def test_one_clock_alone():
    (found,) = parts.parts("iptables", [], "instructions", "auto", QUICK).values()
    assert [column.name for column in found.columns] == ["iptables-legacy", "iptables-nft"]
    assert (DIRECT not in found.columns, found.sizes) == (True, (1, 1000, 10_000))
    with pytest.raises(UsageError, match="unknown mode 'ebtables'"):
        parts.parts("ebtables", [], "instructions", "auto", QUICK)


@pytest.mark.usefixtures("without_ipvs")
@pytest.mark.parametrize("asked", ["auto", "fleet"])
def test_a_fleet_that_is_up_is_measured_and_nothing_else(standing, asked):
    standing(NODES)
    found = parts.parts(None, [], "auto", asked, QUICK)
    assert list(found) == ["fleet"]
    part = found["fleet"]
    assert [column.name for column in part.columns] == ["iptables", "ipvs", "nftables", "userspace"]
    assert (part.sizes, part.measures) == ((100,), ("first-packet", "first-byte", "keep-alive"))
    assert part.told == (
        "the fleet has 2 machines that are Ready: controlplane 6.1.0, node01 6.1.0",
        "node02 is lost and left out: Kubelet stopped posting",
        "the matrix is not checked: it needs nodes node02, too",
    )
    assert not part.matrix  # node02 is one of those that it needs
    assert parts.parts(None, [], "wall", asked, STANDARD, (7,))["fleet"].sizes == (7,)


@pytest.mark.usefixtures("without_ipvs")
def test_another_environment_is_measured_when_it_is_asked_for(standing):
    standing(NODES)
    assert list(shape("iptables", [], "wall", "native", QUICK)) == ["native"]
    assert list(shape(None, [], "wall", "vm", QUICK)) == ["vm"]
    assert list(shape(None, [], "instructions", "auto", QUICK)) == ["instructions"]


@pytest.mark.usefixtures("without_ipvs")
def test_of_a_silent_fleet_there_is_a_line_and_this_machine_is_measured(standing):
    standing([], "nothing at 192.0.2.1:6443 in 2 s")
    found = parts.parts(None, [], "wall", "auto", QUICK)
    assert list(found) == ["native", "vm"]
    assert found["native"].told == (
        "there is a fleet, but this machine is measured: nothing at 192.0.2.1:6443 in 2 s",
    )
    assert found["vm"].told == ("the running kernel lacks ip_vs: all modes are compared in a VM as well",)


def test_in_a_vm_no_fleet_is_looked_for(standing, monkeypatch):
    standing(NODES)
    monkeypatch.setattr(environments, "here", lambda: "vm")
    monkeypatch.setattr(environments, "lacking", lambda columns: {})
    assert list(shape(None, [], "wall", "auto", QUICK)) == ["vm"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("iptables-nft", [], "wall"), "iptables-nft: machines of a fleet run their own agent"),
        (("iptables", ["kp=/opt/kp"], "wall"), "kp: machines of a fleet run their own agent"),
        ((None, [], "instructions"), "--clock instructions counts in a VM"),
    ],
)
def test_what_a_fleet_cannot_do_is_told_with_the_remedy(standing, words, line):
    standing(NODES)
    with pytest.raises(UsageError, match=line):
        parts.parts(*words, "fleet", QUICK)


def test_a_part_knows_what_is_taken_in_its_environment():
    part = Part((), (1, 100), (), QUICK)
    assert part.takes("instructions", "rules-load", 1, 1, OTHER_NODE, "ipvs")
    assert not part.takes("instructions", "rules-load", 1, 1, OTHER_NODE, "userspace")
    assert part.takes("fleet", "keep-alive", 1, 1, OTHER_NODE, DIRECT)
    assert not part.takes("fleet", "keep-alive", 1, 1, OUTSIDE, DIRECT)
    assert not part.takes("fleet", "keep-alive", 1, 10, OTHER_NODE, DIRECT)
    assert part.takes("native", "keep-alive", 1, 10, OUTSIDE, DIRECT)
    assert not part.takes("native", "sync-full", 100, 1, OTHER_NODE, DIRECT)
    assert part.takes("native", "bulk", 100, 1, OTHER_NODE, "ipvs")
    assert not part.takes("native", "bulk", 1, 1, OTHER_NODE, "ipvs")
