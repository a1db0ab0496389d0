"""Processor time of a tree of processes, against a grandchild that burns some."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from testbed.bench.quiet import AT_REST, SHARE, SPAN, at_rest, settle
from testbed.bench.usage import usage

BURN = "import sys, time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\n"
THEN = {"busy": "while True: pass", "idle": "sys.stdin.read()"}


@pytest.fixture
def tree():
    """Starts a shell with a child that has burnt half a second and is then "busy" or "idle"; ends it."""
    with contextlib.ExitStack() as stack:

        def start(then):
            command = ["sh", "-c", '"$0" -c "$1"; :', sys.executable, BURN + THEN[then]]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = stack.enter_context(subprocess.Popen(command, start_new_session=True, **pipes))
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            process.stdout.readline()
            return process.pid

        yield start


def test_the_time_of_a_grandchild_counts(tree):
    used = usage([tree("idle")])
    assert 0.4 <= used.cpu <= 5
    assert usage([os.getpid()]).cpu >= used.cpu


def test_memory_is_what_is_resident():
    block = bytearray(os.urandom(1)) * 2**25
    assert usage([os.getpid()]).rss >= len(block)


def test_who_is_busy_never_settles_and_who_is_idle_does(tree):
    busy, idle = tree("busy"), tree("idle")
    assert settle(lambda: usage([busy]).cpu, deadline=0) > SHARE
    assert settle(lambda: usage([idle]).cpu, deadline=30) <= SHARE


@pytest.mark.parametrize(
    ("shares", "rest"),
    [
        ([0.3] * 2 * SPAN, True),
        ([0.2, 0.4] * SPAN, True),
        ([0.3] * (2 * SPAN - 1), False),
        ([0.5] * SPAN + [0.3] * SPAN, False),
        ([AT_REST + 0.1] * 2 * SPAN, False),
    ],
)
def test_who_uses_little_and_no_less_than_before_is_at_rest(shares, rest):
    assert at_rest(shares) is rest
