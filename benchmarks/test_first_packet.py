"""First-packet latency: from the SYN of a new connection to the first packet of the backend."""

import pytest

from testbed.bench.measures import FIRST_PACKET
from testbed.bench.replay import CLOCK


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.feature("D6")
def test_first_packet(replay):
    assert min(replay(FIRST_PACKET).samples) > 0
