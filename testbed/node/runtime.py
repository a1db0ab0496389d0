"""Clients of a machine's init: `Runtime` for the asyncio kubelet, `call` for plain code."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.errors import TestbedError
from testbed.node.init import SOCKET
from testbed.node.process import Mount, Process, Status

__all__ = ["Finished", "Mount", "Process", "Runtime", "RuntimeRefusal", "Status", "call", "stop"]

_numbers = itertools.count()
ONE_SHOT = "run"
"""What the ids of processes begin with that were run to their end, before a "/"; those of Pods with "pod"."""


class RuntimeRefusal(TestbedError):
    """Init could not do what was asked: a missing program, a namespace that is gone, an unknown id."""


@dataclass(frozen=True)
class Finished:
    """The end of a one-shot process: exit code (negative: a signal) and its output."""

    code: int
    stdout: bytes
    stderr: bytes


def call(request: dict[str, Any], path: str = SOCKET, timeout: float = 10.0) -> dict[str, Any]:
    """One request to the init at `path`, and its answer. Raises RuntimeRefusal or OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(timeout)
        channel.connect(path)
        channel.sendall(json.dumps(request).encode() + b"\n")
        with channel.makefile("rb") as lines:
            return _checked(lines.readline())


def stop(id: str, path: str = SOCKET, timeout: float = 10.0) -> Status:
    """SIGTERM a process, without restart, and wait for its end. Raises TimeoutError after `timeout` s."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(timeout)
        channel.connect(path)
        channel.sendall(json.dumps({"do": "stop", "id": id}).encode() + b"\n")
        with channel.makefile("rb") as lines:
            status = Status(**_checked(lines.readline())["status"])
            return Status(**_checked(lines.readline())["status"]) if status.running else status


def _checked(line: bytes) -> dict[str, Any]:
    if not line:
        raise RuntimeRefusal("the machine's init closed the connection")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise RuntimeRefusal(answer["error"])
    return answer


class Runtime:
    """An asyncio client of the init socket at `path`. Each request is a connection of its own."""

    def __init__(self, path: str = SOCKET) -> None:
        self.path = path

    async def start(self, process: Process, descriptors: Sequence[int] = ()) -> Status:
        """Start `process`; returns once it runs. Raises RuntimeRefusal (say, the program is missing).

        `descriptors`: its stdin, stdout and stderr; with none, stdin is empty and output goes to its log.
        """
        request = {"do": "start", "process": process.to_json()}
        return Status(**(await self._ask(request, descriptors))["status"])

    async def signal(self, id: str, signum: int) -> Status:
        """Send a signal to a process; one that has ended is left alone."""
        return Status(**(await self._ask({"do": "signal", "id": id, "signum": signum}))["status"])

    async def list(self) -> list[Status]:
        """Every process that init knows, ended ones too until they are removed."""
        return [Status(**status) for status in (await self._ask({"do": "list"}))["list"]]

    async def remove(self, id: str) -> None:
        """Kill the process if it runs, and forget it."""
        await self._ask({"do": "remove", "id": id})

    async def run(self, process: Process, stdin: bytes = b"", timeout: float = 10.0) -> Finished:
        """Run a one-shot process to its end. Raises TimeoutError after `timeout` s, the process killed.

        An empty `id` is replaced by a fresh one.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(stdin)
            files[0].seek(0)
            try:
                async with asyncio.timeout(timeout):
                    code = await self.run_on(process, [file.fileno() for file in files])
            except TimeoutError:
                raise TimeoutError(f"{process.argv[0]} did not end within {timeout:g} s") from None
            for file in files:
                file.seek(0)
            return Finished(code, files[1].read(), files[2].read())

    async def run_on(
        self, process: Process, descriptors: Sequence[int], started: Callable[[], None] = lambda: None
    ) -> int:
        """Run a one-shot process on these stdin, stdout and stderr; its exit code.

        `started` is called once init has them too. When this is cancelled, the process is killed.
        """
        id = process.id or f"{ONE_SHOT}/{os.getpid()}-{next(_numbers)}"
        request = {"do": "start", "process": {**process.to_json(), "id": id}, "wait": True}
        reader, writer = await self._connect(request, descriptors)
        try:
            _checked(await reader.readline())
            started()
            return Status(**_checked(await reader.readline())["status"]).exit_code or 0
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeRefusal):
                await self.remove(id)
            raise
        finally:
            writer.close()

    async def run_in(self, pid: int, argv: Sequence[str], timeout: float) -> tuple[bool, str]:
        """A command inside the container whose process is `pid`: whether it returned 0, and its output."""
        try:
            done = await self.run(Process("", tuple(argv), enter=pid), timeout=timeout)
        except (TestbedError, TimeoutError) as error:
            return False, str(error)
        return done.code == 0, (done.stdout + done.stderr).decode(errors="replace").strip()

    async def exits(self) -> AsyncIterator[Status]:
        """Every exit from now on. Ends when init does."""
        reader, writer = await self._connect({"do": "watch"})
        try:
            _checked(await reader.readline())
            while line := await reader.readline():
                yield Status(**_checked(line)["status"])
        finally:
            writer.close()

    async def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        reader, writer = await self._connect(request, descriptors)
        try:
            return _checked(await reader.readline())
        finally:
            writer.close()

    async def _connect(
        self, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(channel, self.path)
            line = json.dumps(request).encode() + b"\n"
            if descriptors:
                # Descriptors ride on the first byte; the rest follows as an ordinary stream.
                socket.send_fds(channel, [line[:1]], list(descriptors))
                line = line[1:]
            reader, writer = await asyncio.open_unix_connection(sock=channel, limit=1 << 24)
        except BaseException:
            channel.close()
            raise
        writer.write(line)
        await writer.drain()
        return reader, writer
