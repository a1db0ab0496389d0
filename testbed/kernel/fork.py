"""fork(2) that loses no Ctrl-C."""

from __future__ import annotations

import os
import signal

INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM})


def fork() -> int:
    """As os.fork, with SIGINT and SIGTERM held back until it is done, in parent and child.

    Python runs fork hooks of its libraries in the parent, and an exception that a signal handler raises
    inside of one (KeyboardInterrupt) is printed and dropped.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        return os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
