"""Work done inside a Pod of a cluster anywhere: a Python there that takes calls, through the API (exec)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from testbed.errors import TestbedError
from testbed.kernel.calls import Caller, Pending, serve

P = ParamSpec("P")
T = TypeVar("T")

COMMAND = ("testbed", "fleet", "calls")
"""What runs in the Pod. It needs an image with this program in it: ours have the node's."""

LAST_WORDS = 4096
"""Bytes of what kubectl said that are kept to tell why it ended."""


class Distant(Caller):
    """A Python in a Pod, as `testbed.kernel.netns.Worker` is one in a namespace of this machine.

    It trusts the Pod's machine: what comes back is unpickled. It ends with `close`, or with its context.
    `patience`: seconds after which a call whose caller waits for ever has failed (its machine is gone).
    """

    def __init__(
        self,
        kubeconfig: Path,
        pod: Mapping[str, Any],
        command: Sequence[str] = COMMAND,
        patience: float | None = None,
    ) -> None:
        self._patience = patience
        self._said = b""
        self.name = str(pod["metadata"]["name"])
        namespace = str(pod["metadata"]["namespace"])
        words = ["kubectl", f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", "exec", "-i", self.name]
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        with theirs:
            self._exec = subprocess.Popen(
                [*words, "--", *command],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
            )

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        with self._told():
            return super().start(function, *args, **kwargs)

    def _outcome(self, number: int, timeout: float | None) -> tuple[bool, Any]:
        with self._told():
            try:
                return super()._outcome(number, self._patience if timeout is None else timeout)
            except TimeoutError:
                if timeout is not None:
                    raise
                raise TestbedError(
                    f"Pod {self.name} has not answered for {self._patience:g} s; is its machine up?"
                ) from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The end of the stream is told in kubectl's words. Raises TestbedError."""
        try:
            yield
        except (EOFError, ConnectionError):
            raise TestbedError(f"Pod {self.name} takes no more calls: {self._last_words()}") from None

    def _last_words(self) -> str:
        assert self._exec.stderr is not None
        self._said += self._exec.stderr.read(LAST_WORDS)
        said = self._said.decode(errors="replace").strip()
        return said.splitlines()[-1] if said else "its connection has ended"

    def close(self) -> None:
        self._socket.close()  # there, the stream ends, and with it the program
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._exec.wait(5.0)
        self._exec.kill()
        self._exec.communicate()

    def __enter__(self) -> Distant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take_calls() -> None:
    """The other end: calls come from stdin, and answers go to stdout until stdin ends."""
    # Descriptors, since what a forked process calls sys.stdout may be closed when it is replaced.
    with open(os.dup(0), "rb") as source, open(os.dup(1), "wb") as sink:
        sys.stdout = sys.stderr

        def write(data: bytes) -> None:
            sink.write(data)
            sink.flush()

        serve(source.read, write)
