"""`kubectl exec`, `cp` and `attach`: the standard streams of a process as channels of a WebSocket.

The first byte of a message is its channel (k8s.io/apimachinery pkg/util/remotecommand): the client sends
stdin, resize and, since v5, close; the server stdout, stderr, and on `error` the outcome as a Status.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import WSMsgType, web

from testbed.errors import TestbedError
from testbed.node.console import Console
from testbed.node.launch import process_of
from testbed.node.pod import PodWorker
from testbed.node.process import Process
from testbed.node.status import Container

Object = dict[str, Any]

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
SUCCESS: Object = {"metadata": {}, "status": "Success"}
CHUNK = 1 << 15
QUIET = 1.0
"""Seconds without a byte after which an ended command has nothing more to say."""


class Streams:
    """Our ends and the process's ends of its standard streams: a terminal, or three pipes."""

    def __init__(self, *, stdin: bool, tty: bool) -> None:
        self.tty = tty
        if tty:
            ours, theirs = os.openpty()
            self.theirs = [theirs, os.dup(theirs), os.dup(theirs)]
            self.stdin, self.outputs = ours, {STDOUT: os.dup(ours)}
        else:
            reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
            self.theirs = [reads[0], writes[1], writes[2]]
            self.stdin, self.outputs = writes[0], {STDOUT: reads[1], STDERR: reads[2]}
            if not stdin:
                self.end_input()
        self._open = [*self.theirs, *self.outputs.values()]
        self.passed, self.sending = 0, set[int]()
        """Bytes that the client has been sent, and channels that wait for it to take some."""

    def handed_over(self) -> None:
        """The process has its ends: ours must see the end of file when it closes them."""
        for descriptor in self.theirs:
            self._open.remove(descriptor)
            os.close(descriptor)

    def taken(self, descriptor: int) -> None:
        """A transport owns this end now, and closes it."""
        self._open.remove(descriptor)

    def resize(self, words: Object) -> None:
        size = struct.pack("HHHH", int(words.get("Height", 0)), int(words.get("Width", 0)), 0, 0)
        if self.tty and self.stdin >= 0:
            fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, size)

    def end_input(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        self.end_input()
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []


Run = Callable[[Process, list[int], Callable[[], None]], Any]
"""Runtime.run_on."""


async def command(worker: PodWorker, each: Container, argv: Sequence[str], *, tty: bool) -> Process:
    """A command to run inside a running container, with the container's environment."""
    attached = worker.node.sandboxes.attached(worker.uid)
    if attached is None or each.process is None:
        raise TestbedError("the container is not running")
    own = await process_of(worker.node, worker.pod, each, attached, each.attempt)
    env = {"PATH": os.defpath, **(own.env or {})} | ({"TERM": "xterm"} if tty else {})
    return Process("", tuple(argv), env, own.cwd, enter=each.process.pid, tty=tty)


async def execute(websocket: web.WebSocketResponse, process: Process, run: Run, *, stdin: bool) -> None:
    """Run `process` on the channels of `websocket` to its end. A client that goes away ends it."""
    streams = Streams(stdin=stdin, tty=process.tty)
    loop = asyncio.get_running_loop()
    pumps: list[asyncio.Task[None]] = []
    running = loop.create_task(run(process, streams.theirs, streams.handed_over))
    listening = loop.create_task(_listen(websocket, streams))
    try:
        pumps = [loop.create_task(_pump(websocket, channel, streams)) for channel in streams.outputs]
        await asyncio.wait([running, listening], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            outcome = _outcome(running)
            if not running.exception():
                await _emptied(pumps, listening, streams)
            await _tell(websocket, listening, outcome)
    finally:
        for task in (running, listening, *pumps):
            task.cancel()
        await asyncio.gather(running, listening, *pumps, return_exceptions=True)
        streams.close()


async def _emptied(
    pumps: Sequence[asyncio.Task[None]], listening: asyncio.Task[None], streams: Streams
) -> None:
    """Until all outputs have ended. A child may hold them open for ever: then until nothing comes."""
    pending = set(pumps)
    while pending and not listening.done():
        before = streams.passed
        _, pending = await asyncio.wait(pending, timeout=QUIET)
        if streams.passed == before and not streams.sending:
            break


async def _tell(websocket: web.WebSocketResponse, listening: asyncio.Task[None], outcome: Object) -> None:
    """The outcome, and then the end.

    What the client still sends is read until it has closed, too: a connection that is closed with bytes
    unread is reset, and what the client had not read yet of the outcome and the output is lost.
    """
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    with contextlib.suppress(ConnectionError):
        await websocket.send_bytes(bytes([ERROR]) + json.dumps(outcome).encode())
        await websocket.close()


async def attach(
    websocket: web.WebSocketResponse, console: Console | None, printed: AsyncIterator[bytes]
) -> None:
    """Show what a container prints until it ends, and pass on to its console what the client types."""
    loop = asyncio.get_running_loop()
    showing = loop.create_task(_show(websocket, printed))
    listening = loop.create_task(_listen(websocket, console))
    try:
        await asyncio.wait([showing, listening], return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            await _tell(websocket, listening, SUCCESS)
    finally:
        for task in (showing, listening):
            task.cancel()
        await asyncio.gather(showing, listening, return_exceptions=True)
        if console:
            console.end_input()


async def _show(websocket: web.WebSocketResponse, printed: AsyncIterator[bytes]) -> None:
    async for data in printed:
        await websocket.send_bytes(bytes([STDOUT]) + data)


async def _listen(websocket: web.WebSocketResponse, streams: Streams | Console | None) -> None:
    """What the client sends, to its end."""
    async for message in websocket:
        if message.type is WSMsgType.TEXT:  # the official Python client sends text so
            sent = message.data.encode()
        else:
            sent = message.data if message.type is WSMsgType.BINARY else b""
        if not sent or streams is None:
            continue
        channel, data = sent[0], sent[1:]
        if channel == STDIN:
            await _write(streams, data)
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, TypeError, AttributeError, struct.error):
                streams.resize(json.loads(data))
        elif channel == CLOSE and data == bytes([STDIN]) and not streams.tty:
            streams.end_input()


async def _write(streams: Streams | Console, data: bytes) -> None:
    """Waits while the process does not read. What it will never read is dropped."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view and streams.stdin >= 0:
        os.set_blocking(streams.stdin, False)
        try:
            view = view[os.write(streams.stdin, view) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(streams.stdin, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(streams.stdin)
        except OSError:
            streams.end_input()


async def _pump(websocket: web.WebSocketResponse, channel: int, streams: Streams) -> None:
    """One output to its channel."""
    reader = asyncio.StreamReader(limit=CHUNK)
    descriptor = streams.outputs[channel]
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    streams.taken(descriptor)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        with contextlib.suppress(OSError):  # EIO: the terminal's last user has closed it
            while chunk := await reader.read(CHUNK):
                streams.sending.add(channel)
                await websocket.send_bytes(bytes([channel]) + chunk)
                streams.sending.discard(channel)
                streams.passed += len(chunk)
    finally:
        transport.close()


def _outcome(running: asyncio.Task[int]) -> Object:
    """The Status that a command ends with."""
    error = running.exception()
    if isinstance(error, TestbedError | OSError):
        return _failure("InternalError", f"error executing command in container: {error}", 500)
    code = running.result()
    if code == 0:
        return SUCCESS
    code = code if code > 0 else 128 - code
    told = f"command terminated with non-zero exit code: exit status {code}"
    cause = {"reason": "ExitCode", "message": str(code)}
    return {**_failure("NonZeroExitCode", told), "details": {"causes": [cause]}}


def _failure(reason: str, message: str, code: int = 0) -> Object:
    status = {"metadata": {}, "status": "Failure", "reason": reason, "message": message}
    return status | ({"code": code} if code else {})
