"""New connection to first byte of the answer: the same path for every mode, like for like."""

import pytest

from testbed.bench.measures import FIRST_BYTE
from testbed.bench.replay import CLOCK


@pytest.mark.benchmark(timer=CLOCK)
def test_first_byte(replay):
    assert min(replay(FIRST_BYTE).samples) > 0
