"""What holds for every test."""

import signal

import pytest

LONGEST = 1200
"""Seconds after which a test is stuck, even on a machine with much else to do."""


def pytest_configure() -> None:
    """Take Ctrl-C even where a shell started the run in the background with SIGINT ignored.

    What tests start inherits that, and some of it is interrupted to see what it leaves.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One that is stuck fails by itself, with what its threads were doing; the others still run."""
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST))
