"""A request and its answer on a connection that is already open."""

import pytest

from testbed.bench.measures import KEEP_ALIVE
from testbed.bench.replay import CLOCK


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.feature("D6")
def test_keep_alive(replay):
    assert min(replay(KEEP_ALIVE).samples) > 0
