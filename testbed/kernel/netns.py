"""Work done inside a network namespace: a forked child that enters it and takes calls."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from testbed.kernel.fork import fork
from testbed.kernel.namespaces import die_with_parent, enter, loopback_up, unshare

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Pending", "Worker", "enter", "scratch"]


class Pending(Generic[T]):
    """A call under way in a worker."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number

    def result(self, timeout: float | None = None) -> T:
        """What the call returned, or its exception raised here. TimeoutError after `timeout` seconds."""
        result: T = self._worker._result(self._number, timeout)
        return result


class Worker:
    """A forked child inside a network namespace. Calls run there one after the other, in order.

    `netns` is the path of a namespace file (`/proc/PID/ns/net`), or None to stay in the caller's.
    Functions, arguments and results travel pickled; exceptions come back and are raised by the caller.
    The child ends with `close`, with the context, or with the thread that made it.
    """

    def __init__(self, netns: str | Path | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        self._sent = 0
        self._done: dict[int, tuple[bool, Any]] = {}
        self.pid = fork()
        if self.pid == 0:
            try:
                self._socket.close()
                _serve(theirs, netns)
            finally:
                os._exit(0)
        theirs.close()

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        """Send a call; its result is fetched later, so that several workers can run at once."""
        self._sent += 1
        _send(self._socket, (self._sent, function, args, kwargs))
        return Pending(self, self._sent)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` inside and wait for its result."""
        return self.start(function, *args, **kwargs).result()

    def _result(self, number: int, timeout: float | None) -> Any:
        self._socket.settimeout(timeout)
        while number not in self._done:
            received, good, value = _receive(self._socket)
            self._done[received] = (good, value)
        good, value = self._done.pop(number)
        if good:
            return value
        raise value

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
    while True:
        try:
            number, function, args, kwargs = _receive(channel)
        except EOFError:
            return
        try:
            if trouble is not None:
                raise trouble
            answer = (number, True, function(*args, **kwargs))
        except BaseException as error:
            error.add_note("in the worker:\n" + traceback.format_exc())
            answer = (number, False, error)
        try:
            _send(channel, answer)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            _send(channel, (number, False, TypeError(f"the worker's answer cannot be sent: {error}")))


def _send(channel: socket.socket, message: object) -> None:
    payload = pickle.dumps(message)
    channel.settimeout(None)
    channel.sendall(struct.pack("!I", len(payload)) + payload)


def _receive(channel: socket.socket) -> Any:
    (length,) = struct.unpack("!I", _exactly(channel, 4))
    return pickle.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = channel.recv(length - len(parts))
        if not part:
            raise EOFError("the worker ended")
        parts += part
    return bytes(parts)


def _unshare_network() -> None:
    unshare(("net",))
    loopback_up()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A fresh network namespace with `lo` up, as the path of its file. It is gone at exit."""
    with Worker() as holder:
        holder.call(_unshare_network)
        yield Path(f"/proc/{holder.pid}/ns/net")
