"""How long to wait: deadlines grow on slow machines (an emulated processor, say), and nothing else does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLOW = "TESTBED_SLOW"
"""The environment variable that says how many times slower than a laptop this machine is."""

SLOW_VM = 8.0
"""The same for a virtual machine, which may well be an emulated one."""


def patience(seconds: float) -> float:
    """`seconds` on a laptop, as many as that takes here."""
    usual = SLOW_VM if os.environ.get("TESTBED_ENV") == "vm" else 1.0
    return seconds * float(os.environ.get(SLOW) or usual)


def be_patient(times: float) -> None:
    """This machine, or another that this process waits for, is so many times slower than a laptop."""
    os.environ[SLOW] = str(times)


def until(attempt: Callable[[], T | None], seconds: float, pause: float = 0.05) -> T | None:
    """The first true result of `attempt`, asked each `pause` seconds; after `seconds`, whatever comes.

    The pause grows too: where all is slow, asking takes from what is waited for.
    """
    deadline = time.monotonic() + patience(seconds)
    while not (result := attempt()) and time.monotonic() < deadline:
        time.sleep(patience(pause))
    return result
