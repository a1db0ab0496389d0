"""Where a run happens, and how far it is."""

import pytest

from testbed.bench import environments
from testbed.bench.columns import columns
from testbed.bench.progress import Progress
from testbed.bench.stage import in_order
from testbed.errors import UsageError

MODES = columns("iptables,ipvs,userspace")
IPTABLES, IPVS, USERSPACE = MODES
LACKING = {"ipvs": "ip_vs"}


@pytest.fixture
def at_home(monkeypatch):
    monkeypatch.setattr(environments, "here", lambda: "native")


@pytest.mark.usefixtures("at_home")
def test_one_mode_that_has_to_move_takes_all_with_it():
    assert environments.choose(MODES, "auto", LACKING) == {"native": (IPTABLES, USERSPACE), "vm": MODES}
    assert environments.choose((IPVS,), "auto", LACKING) == {"vm": (IPVS,)}


@pytest.mark.usefixtures("at_home")
def test_a_kernel_that_has_all_needs_no_vm():
    assert environments.choose(MODES, "auto", {}) == {"native": MODES}
    assert environments.choose(MODES, "vm", {}) == {"vm": MODES}


@pytest.mark.usefixtures("at_home")
def test_what_the_kernel_lacks_is_refused_when_native_was_asked_for():
    with pytest.raises(UsageError, match=r"mode ipvs needs ip_vs, which kernel .* lacks; use --env vm"):
        environments.choose(MODES, "native", LACKING)


def test_inside_a_vm_no_other_is_asked_for(monkeypatch):
    monkeypatch.setattr(environments, "here", lambda: "vm")
    assert environments.choose(MODES, "auto", {}) == {"vm": MODES}
    assert environments.choose(MODES, "vm", {}) == {"vm": MODES}
    with pytest.raises(UsageError, match="needs ip_vs"):
        environments.choose(MODES, "auto", LACKING)


def test_the_time_left_is_stretched_by_what_the_work_took_so_far():
    said, now = [], [0.0]
    progress = Progress("bench", 100, said.append, lambda: now[0])
    progress.step("starting")
    now[0] = 20.0
    progress.advance(10, "sampling")
    now[0] = 22.0
    progress.advance(1, "sampling")
    assert said == ["bench: starting", "bench: sampling (about 180 s left)"]


def test_targets_stand_in_the_order_of_the_rules():
    assert in_order(["10.96.0.2", "10.96.0.3"], ["10.96.0.1", "10.96.0.3", "10.96.0.2"]) == [
        "10.96.0.3",
        "10.96.0.2",
    ]
    assert in_order(["10.96.0.9", "10.96.0.3"], []) == ["10.96.0.9", "10.96.0.3"]
