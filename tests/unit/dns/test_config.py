from __future__ import annotations

import pytest

from testbed.dns.config import upstreams
from testbed.dns.server import Upstream
from testbed.errors import UsageError


def test_stub_domains_and_upstreams() -> None:
    data = {
        "stubDomains": '{"corp.example": ["192.0.2.1", "192.0.2.2:5353"], "six.example": ["fd00::1"]}',
        "upstreamNameservers": '["8.8.8.8", "[fd00::2]:53"]',
    }
    assert upstreams(data) == [
        Upstream("corp.example", "192.0.2.1", 53),
        Upstream("corp.example", "192.0.2.2", 5353),
        Upstream("six.example", "fd00::1", 53),
        Upstream("", "8.8.8.8", 53),
        Upstream("", "fd00::2", 53),
    ]
    assert upstreams({}) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"stubDomains": "{"}, "stubDomains: not JSON"),
        ({"stubDomains": "[]"}, "stubDomains: '\\[\\]' is not a JSON object of lists"),
        ({"stubDomains": '{"a": "1.2.3.4"}'}, "is not a JSON object of lists"),
        ({"upstreamNameservers": '["x"]'}, "upstreamNameservers: 'x' is not ADDRESS"),
        ({"upstreamNameservers": "[3]"}, "upstreamNameservers: 3 is not ADDRESS"),
    ],
)
def test_what_is_wrong_is_said(data: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        upstreams(data)
