"""Proxy modes compared: every measure, at every number of Services, in every column.

Samples are taken for all columns together, interleaved, before the first of these tests (docs/measuring.md).
"""

import pytest

from testbed.bench.replay import CLOCK


@pytest.mark.benchmark(timer=CLOCK)
def test(replay):
    cell = replay()
    assert len(cell.samples) > 0
    assert min(cell.samples) >= 0
