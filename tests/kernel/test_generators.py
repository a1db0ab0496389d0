"""Load generators against their servers, in a namespace of their own."""

import time

from testbed.bench import tools
from testbed.kernel.netns import Worker, scratch

ASLEEP = 2
"""Seconds that sockperf sleeps before it sends."""
BURSTS = 3


def test_sockperfs_sleep_together_and_send_one_after_the_other():
    with scratch() as netns, Worker(netns) as worker:
        before = time.monotonic()
        worker.call(tools.serve)
        for _ in range(BURSTS):
            worker.call(tools.ready_to_echo, "127.0.0.1", 1)
        figures = [worker.call(tools.datagrams, "127.0.0.1", 1) for _ in range(BURSTS)]
        took = time.monotonic() - before
    assert all(rate > 100 and lost < 1 for rate, lost in figures)
    assert took < BURSTS * (ASLEEP + 1)
