"""Work done inside a network namespace: a forked child that enters it and takes calls."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from testbed.kernel.calls import Caller, Pending, serve
from testbed.kernel.fork import fork
from testbed.kernel.namespaces import die_with_parent, enter, loopback_up, unshare

__all__ = ["Pending", "Worker", "enter", "scratch"]


class Worker(Caller):
    """A forked child inside a network namespace that takes calls.

    `netns` is the path of a namespace file (`/proc/PID/ns/net`), or None to stay in the caller's.
    The child ends with `close`, with the context, or with the thread that made it.
    """

    def __init__(self, netns: str | Path | None = None) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.pid = fork()
        if self.pid == 0:
            try:
                ours.close()
                _serve(theirs, netns)
            finally:
                os._exit(0)
        theirs.close()

    def close(self) -> None:
        """End the child, whatever it is doing, and reap it."""
        if self.pid:
            self._socket.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(channel: socket.socket, netns: str | Path | None) -> None:
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    trouble: Exception | None = None
    if netns is not None:
        try:
            enter(netns)
        except OSError as error:
            trouble = error
    serve(channel.recv, channel.sendall, trouble)


def _unshare_network() -> None:
    unshare(("net",))
    loopback_up()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A fresh network namespace with `lo` up, as the path of its file. It is gone at exit."""
    with Worker() as holder:
        holder.call(_unshare_network)
        yield Path(f"/proc/{holder.pid}/ns/net")
