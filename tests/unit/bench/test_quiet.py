"""Processor time of a tree of processes, against a child that burns some."""

import os
import subprocess
import sys

from testbed.bench.quiet import SHARE, cpu_seconds, settle

BURN = "import time, sys\nwhile time.process_time() < {}: pass\nprint('done', flush=True)\nsys.stdin.read()"


def child(seconds):
    command = ["sh", "-c", '"$0" -c "$1"; :', sys.executable, BURN.format(seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_time_of_a_grandchild_counts():
    with child(0.5) as process:
        process.stdout.readline()
        assert 0.4 <= cpu_seconds([process.pid]) <= 5
        assert cpu_seconds([os.getpid()]) >= cpu_seconds([process.pid])
        process.stdin.close()
    assert cpu_seconds([process.pid]) == 0


def test_settling_waits_for_quiet_or_the_deadline():
    with child(3600) as busy:
        assert settle([busy.pid], deadline=0) > SHARE
        subprocess.run(["pkill", "-P", str(busy.pid)], check=True)
    with child(0) as quiet:
        quiet.stdout.readline()
        assert settle([quiet.pid], deadline=30) <= SHARE
        quiet.stdin.close()
