"""fork(2) that loses no Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_PARENT = 0x8000
SYS_CLONE = 220 if os.uname().machine == "aarch64" else 56
_holding_the_lock = ctypes.PyDLL(None, use_errno=True)
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


def fork_sibling() -> int:
    """As os.fork, but the child is one of the caller's parent, which reaps it (clone(2), CLONE_PARENT).

    For a process with one thread. The calls are those that os.fork makes around fork(2), but in the child too
    those for the parent: it is what its parent was, lock by lock, and to make all that anew is 0.3 MB.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_holding_the_lock.syscall(SYS_CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid
