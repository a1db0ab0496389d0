"""The standard input of a container that has one, or its terminal; and `kubectl attach` to it.

The node agent holds the other end, so a terminal goes with the agent: its container is started again, by its
restart policy. What a terminal prints goes to the container's log by way of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]
CHUNK = 1 << 15


class Console:
    """Our end. `theirs` are the process's stdin, stdout and stderr, to be closed when it has them."""

    def __init__(self, log: Path, *, tty: bool, once: bool) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.tty = tty
        self._once = once
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._followers: set[asyncio.Queue[bytes]] = set()
        if tty:
            self.stdin, slave = os.openpty()
            self.theirs = [slave, os.dup(slave), os.dup(slave)]
            os.set_blocking(self.stdin, False)
            asyncio.get_running_loop().add_reader(self.stdin, self._printed)
        else:
            read, self.stdin = os.pipe()
            self.theirs = [read, os.dup(self._log), os.dup(self._log)]

    def handed_over(self) -> None:
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def _printed(self) -> None:
        try:
            data = os.read(self.stdin, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: its last user has closed it
            data = b""
        if not data:
            self.close()
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        os.write(self._log, data)
        for follower in self._followers:
            follower.put_nowait(data)

    async def printed(self) -> AsyncIterator[bytes]:
        """What the terminal prints from now on."""
        follower: asyncio.Queue[bytes] = asyncio.Queue()
        self._followers.add(follower)
        try:
            while data := await follower.get():
                yield data
        finally:
            self._followers.discard(follower)

    def resize(self, words: Object) -> None:
        size = struct.pack("HHHH", int(words.get("Height", 0)), int(words.get("Width", 0)), 0, 0)
        if self.tty and self.stdin >= 0:
            fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, size)

    def end_input(self) -> None:
        """The client has said all; so has everybody, where the container reads but one client."""
        if self._once and not self.tty:
            self._close_input()

    def _close_input(self) -> None:
        if self.stdin >= 0:
            if self.tty:
                asyncio.get_running_loop().remove_reader(self.stdin)
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """The container has ended. What it printed last is still to be read."""
        with contextlib.suppress(OSError):
            while self.tty and (data := os.read(self.stdin, CHUNK)):
                self._take(data)
        self._close_input()
        self.handed_over()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        for follower in self._followers:
            follower.put_nowait(b"")


class Consoles:
    """Those of a node's containers, by process."""

    def __init__(self) -> None:
        self._held: dict[str, Console] = {}

    def open(self, id: str, container: Object, log: Path) -> Console | None:
        """A console for a container that asks for one."""
        if not (container.get("stdin") or container.get("tty")):
            return None
        self.close(id)
        made = Console(log, tty=bool(container.get("tty")), once=bool(container.get("stdinOnce")))
        self._held[id] = made
        return made

    def get(self, id: str) -> Console | None:
        return self._held.get(id)

    def close(self, id: str) -> None:
        with contextlib.suppress(KeyError):
            self._held.pop(id).close()
