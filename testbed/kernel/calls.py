"""Calls of Python functions in another process: pickled, one after the other, over a stream of bytes."""

from __future__ import annotations

import pickle
import socket
import struct
import traceback
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pending(Generic[T]):
    """A call under way."""

    def __init__(self, caller: Caller, number: int) -> None:
        self._caller = caller
        self._number = number

    def result(self, timeout: float | None = None) -> T:
        """What the call returned, or its exception raised here. TimeoutError after `timeout` seconds."""
        result: T = self._caller._result(self._number, timeout)
        return result


class Caller:
    """Has functions called by whoever serves the other end of `channel`: one after the other, in order.

    Functions, arguments and results travel pickled; exceptions come back and are raised here.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._socket = channel
        self._sent = 0
        self._done: dict[int, tuple[bool, Any]] = {}

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        """Send a call; its result is fetched later, so that several can run at once."""
        self._sent += 1
        message = _framed((self._sent, function, args, kwargs))
        self._socket.settimeout(None)
        self._socket.sendall(message)
        return Pending(self, self._sent)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` there and wait for its result."""
        return self.start(function, *args, **kwargs).result()

    def _result(self, number: int, timeout: float | None) -> Any:
        good, value = self._outcome(number, timeout)
        if good:
            return value
        raise value

    def _outcome(self, number: int, timeout: float | None) -> tuple[bool, Any]:
        """Whether a call returned, and what; or else its exception. Raises what befell the stream itself."""
        self._socket.settimeout(timeout)
        while number not in self._done:
            received, good, value = _receive(self._socket.recv)
            self._done[received] = (good, value)
        return self._done.pop(number)


def serve(
    read: Callable[[int], bytes], write: Callable[[bytes], object], trouble: Exception | None = None
) -> None:
    """Take calls until the stream ends, which `read` tells by b"". With `trouble`, each raises that.

    `write` takes all it is given.
    """
    while True:
        try:
            number, function, args, kwargs = _receive(read)
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
            message = _framed(answer)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            message = _framed((number, False, TypeError(f"the worker's answer cannot be sent: {error}")))
        write(message)


def _framed(message: object) -> bytes:
    payload = pickle.dumps(message)
    return struct.pack("!I", len(payload)) + payload


def _receive(read: Callable[[int], bytes]) -> Any:
    (length,) = struct.unpack("!I", _exactly(read, 4))
    return pickle.loads(_exactly(read, length))


def _exactly(read: Callable[[int], bytes], length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = read(length - len(parts))
        if not part:
            raise EOFError("the worker ended")
        parts += part
    return bytes(parts)
