"""What a session measures where, and by which clock."""

import json

import pytest

from testbed.bench import collect, environments, parts
from testbed.bench.columns import DIRECT
from testbed.bench.plan import QUICK, STANDARD, Plan
from testbed.errors import UsageError


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
        "vm": (["iptables", "ipvs", "nftables", "userspace"], (100,)),
        "instructions": (["iptables-legacy", "iptables-nft", "ipvs", "nftables"], (1, 100, 1000)),
    }
    assert list(shape("ipvs,userspace", [], "wall", "auto", QUICK)) == ["native", "vm"]
    assert list(shape("iptables,userspace", [], "auto", "auto", QUICK)) == ["native"]
    assert list(shape(None, [], "auto", "vm", QUICK)) == ["vm"]


@pytest.mark.usefixtures("without_ipvs")
def test_what_is_asked_for_counts_everywhere():
    found = shape("ipvs,userspace", ["kp=/opt/kp"], "auto", "auto", STANDARD, (1, 7))
    assert found == {
        "native": (["userspace", "kp"], (1, 7)),
        "vm": (["ipvs", "userspace", "kp"], (1, 7)),
        "instructions": (["ipvs"], (1, 7)),
    }


def test_hardware_s_own_vm_is_timed_only(without_ipvs, monkeypatch):
    monkeypatch.setattr("testbed.vm.translates", lambda: False)
    assert list(shape(None, [], "auto", "auto", QUICK)) == ["native", "vm"]
    found = parts.parts(None, [], "auto", "auto", QUICK)
    assert (found["vm"].profile, found["vm"].sizes) == (QUICK, QUICK.sizes)


@pytest.mark.usefixtures("without_ipvs")
def test_where_a_vm_is_emulated_less_is_taken_there_and_enough_for_p99():
    found = parts.parts(None, [], "auto", "auto", QUICK)
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
    with pytest.raises(UsageError, match="cannot measure userspace"):
        parts.parts("userspace", [], "instructions", "auto", QUICK)
