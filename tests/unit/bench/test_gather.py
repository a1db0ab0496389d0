"""A run in another process that comes to nothing is told, and takes nothing else down with it."""

from testbed.bench.columns import COLUMNS
from testbed.bench.gather import Counting
from testbed.bench.plan import Plan


def test_counting_that_failed_meanwhile_gives_no_run(monkeypatch, capfd):
    monkeypatch.setenv("TESTBED_ENV", "vm")  # where no VM is started
    with Counting(Plan((COLUMNS["nftables"],), (1,), ("first-packet",))) as counting:
        assert counting.result() is None
    assert "run it outside of this one" in capfd.readouterr().err


def test_counting_that_nobody_waits_for_ends():
    with Counting(Plan((COLUMNS["nftables"],), (1,), ("first-packet",))) as counting:
        process = counting._process
    assert process.returncode not in (None, 0)
