from __future__ import annotations

import pytest

from testbed.errors import UsageError
from testbed.model.duration import seconds
from testbed.node.registration import parse_labels, parse_taints


def test_taints_and_labels_are_read_and_nonsense_is_refused() -> None:
    assert parse_taints("a=b:NoSchedule,c:NoExecute") == [
        {"key": "a", "effect": "NoSchedule", "value": "b"},
        {"key": "c", "effect": "NoExecute"},
    ]
    assert parse_labels("a=,b=c") == {"a": "", "b": "c"}
    with pytest.raises(UsageError, match="register-with-taints"):
        parse_taints("a=b")
    with pytest.raises(UsageError, match="node-labels"):
        parse_labels("a")


def test_durations() -> None:
    assert [seconds(text) for text in ("40s", "1m", "500ms", "1.5h")] == [40.0, 60.0, 0.5, 5400.0]
    with pytest.raises(UsageError, match="duration"):
        seconds("40")
