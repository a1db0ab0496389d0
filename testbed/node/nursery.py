"""Where containers are born: a small process beside a machine's init, with a memory worth inheriting.

Init has the components' modules loaded, 50 MB. What is forked from it copies the tables of all that, and is
left with each page that init changes later. A container is forked from here instead: an interpreter that
knows what the project's small programs need and nothing else, 1 ms and 2 MB instead of 5 ms and 5 MB each.

What is born here is init's child all the same, which reaps it.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from testbed.kernel.fork import fork_sibling
from testbed.node.process import Process
from testbed.node.spawn import PROGRAM, spawn, warm

LIGHT = ("cni", "echo")
"""The project's programs that this process has loaded; heavier ones are forked from init."""
MAX_DESCRIPTORS = 3


def is_born_here(process: Process) -> bool:
    """Whether a process is one of a Pod's, and not a component of the machine."""
    light = process.argv[0] != PROGRAM or process.argv[1:2] in [(verb,) for verb in LIGHT]
    return light and not process.restart


class Nursery:
    """Init's end. The other is started when it is first needed, and again if it should be killed."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None

    def spawn(self, process: Process, descriptors: Sequence[int]) -> int:
        """As `spawn.spawn`."""
        try:
            return self._ask(process, descriptors)
        except ConnectionError:
            self._channel = None
            return self._ask(process, descriptors)

    def _ask(self, process: Process, descriptors: Sequence[int]) -> int:
        if self._channel is None:
            self._channel = _start()
        line = json.dumps(process.to_json()).encode() + b"\n"
        socket.send_fds(self._channel, [line[:1]], list(descriptors))
        self._channel.sendall(line[1:])
        answer = json.loads(_line(self._channel))
        if "error" in answer:
            raise OSError(*answer["error"])
        return int(answer["pid"])


def _start() -> socket.socket:
    ours, theirs = socket.socketpair()
    # No site directory is looked through: faster, and what that would bring is all on this path.
    path = [str(Path(__file__).parents[2]), *sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from testbed.node import nursery; nursery.serve(3)"
    with theirs:
        words = (sys.executable, "-I", "-S", "-c", code)
        given = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
        os.posix_spawn(sys.executable, words, os.environ, file_actions=given)
    return ours


def _line(channel: socket.socket) -> bytes:
    """The next line; nobody sends another before it is answered."""
    data = bytearray()
    while not data.endswith(b"\n"):
        chunk = channel.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("the nursery is gone")
        data += chunk
    return bytes(data)


def serve(descriptor: int) -> None:
    """Give birth to what is asked for on that socket, until init is gone."""
    machines = _settle()
    channel = socket.socket(fileno=descriptor)
    while True:
        first, descriptors, _, _ = socket.recv_fds(channel, 1, MAX_DESCRIPTORS)
        if not first:
            return
        process = Process.from_json(json.loads(first + _line(channel)))
        if process.env is None:
            process = replace(process, env=machines)
        try:
            answer: dict[str, object] = {"pid": spawn(process, descriptors, fork_sibling)}
        except OSError as error:
            answer = {"error": [error.errno or 5, error.strerror or str(error)]}
        for each in descriptors:
            os.close(each)
        channel.sendall(json.dumps(answer).encode() + b"\n")


def _settle() -> dict[str, str]:
    """Load all that the children need, so that they need not; and leave it alone from then on.

    The environment: it is taken off here once, and not by each child.
    """
    from setproctitle import setproctitle

    import testbed.node.bridge  # noqa: F401

    warm(LIGHT)
    setproctitle("testbed-nursery")
    environment = dict(os.environ)
    os.environ.clear()
    gc.collect()
    gc.freeze()
    return environment
