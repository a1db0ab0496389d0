"""Only so many requests at once, and each is counted."""

from collections import Counter

import pytest

from testbed.api.auth import User
from testbed.api.status import StatusError
from testbed.api.traffic import MUTATING, READ_ONLY, Traffic

SOMEBODY, MASTER = User("somebody"), User("admin", frozenset({"system:masters"}))


def test_one_too_many_is_told_to_come_back() -> None:
    traffic = Traffic({READ_ONLY: 1, MUTATING: 0})
    with traffic.admitted(SOMEBODY, "list"):
        with pytest.raises(StatusError) as refused, traffic.admitted(SOMEBODY, "get"):
            pass
        assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
        assert refused.value.retry_after == 1
        with traffic.admitted(MASTER, "get"), traffic.admitted(SOMEBODY, "create"):
            pass
    with traffic.admitted(SOMEBODY, "get"):
        text = traffic.text(Counter(), {})
    assert 'apiserver_current_inflight_requests{request_kind="readOnly"} 1' in text
    assert 'apiserver_request_terminations_total{request_kind="readOnly"} 1' in text


def test_durations_go_into_their_buckets() -> None:
    traffic = Traffic({})
    labels = ("GET", "", "v1", "pods", "", "resource")
    for seconds in (0.001, 0.3, 100.0):
        traffic.count(labels, 200, seconds)
    traffic.count(labels, 404, None)
    lines = traffic.text(Counter(), {}).splitlines()
    shown = {
        line.rpartition(" ")[0].partition('le="')[2][:-2]: line.rpartition(" ")[2]
        for line in lines
        if "_bucket" in line
    }
    assert (shown["0.005"], shown["0.2"], shown["0.4"], shown["60.0"], shown["+Inf"]) == (
        "1",
        "1",
        "2",
        "2",
        "3",
    )
    assert any(line.endswith('code="404"} 1') for line in lines)
