"""Which faults are hunted together, and which cases are asked first. Pure."""

from __future__ import annotations

import pytest

from testbed.model.cases import CASES, LIVE_CASES, live_version
from testbed.packets.mutations import in_parts, rounds
from testbed.packets.noticing import NOTICED_BY, notices
from testbed.proxy import faults
from testbed.proxy.modes import NAMES

EVERY = sorted({fault for mode in NAMES for fault in faults.names(mode)})


@pytest.mark.parametrize("fault", EVERY)
def test_every_fault_has_cases_made_for_it_in_each_family(fault: str) -> None:
    at_rest = {case.version for case in CASES if notices(fault, case.name)}
    live = {live_version(name) for name in LIVE_CASES if notices(fault, name)}
    assert at_rest | live == {4, 6}


def test_no_row_is_about_a_fault_that_nobody_has() -> None:
    assert sorted(NOTICED_BY) == EVERY


@pytest.mark.parametrize("mode", NAMES)
@pytest.mark.parametrize("versions", [(4, 6), (6,)])
def test_every_fault_is_given_once(mode: str, versions: tuple[int, ...]) -> None:
    names = faults.names(mode)
    given = [*rounds(names, LIVE_CASES, versions)]
    assert all(tuple(each) == versions for each in given)
    told = [fault for each in given for fault in dict.fromkeys(each.values())]
    assert sorted(told) == sorted(names)


def test_faults_of_live_cases_share_their_episodes() -> None:
    *_, last = rounds(("no-affinity", "no-hairpin", "mark-kept", faults.FROZEN), LIVE_CASES, (4, 6))
    assert set(last.values()) == {"no-affinity", faults.FROZEN}


def test_a_single_one_is_given_in_both_families() -> None:
    assert [*rounds(("no-hairpin",), LIVE_CASES, (4, 6))] == [{4: "no-hairpin", 6: "no-hairpin"}]


def test_single_questions_are_asked_before_many() -> None:
    single, many = in_parts(CASES)
    assert {case.count for case in single} == {1}
    assert 1 not in {case.count for case in many}
    assert len(single) + len(many) == len(CASES)
