"""The first process of a machine: starts, reaps and restarts its processes on request.

One thread, one loop. Being PID 1 of its own pid namespace, it is the parent of every orphan there, and when
it is killed the kernel kills all others with it: that is how a machine is taken down without hunting for
processes. Requests come as one JSON line on a Unix stream socket, descriptors beside it (SCM_RIGHTS):

    {"do": "start", "process": {…}, "wait": false}   -> {"status": {…}}   with wait one more at its end, and
                                                        init forgets it then
    {"do": "signal", "id": …, "signum": 15}          -> {"status": {…}}
    {"do": "stop", "id": …}                          -> {"status": {…}}   SIGTERM; one more at its end
    {"do": "list"}                                   -> {"list": [{…}, …]}
    {"do": "remove", "id": …}                        -> {"status": {…}}   forgets it; a running one is killed
    {"do": "watch"}                                  -> a line for every exit from now on

A request that cannot be done is answered {"error": …}.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, replace
from typing import Any

from testbed.node.nursery import Nursery, is_born_here
from testbed.node.process import Process, Status
from testbed.node.spawn import spawn

SOCKET = "/run/init.sock"
MAX_DESCRIPTORS = 16
RESTART_DELAYS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before each restart of a process that keeps ending; one that ran RESET_AFTER starts over."""
RESET_AFTER = 10.0


@dataclass
class Entry:
    """A process that init knows, and the connection that waits for its end, if any.

    A one-shot process is one whose starter waits for it: when that starter is gone, so is the interest in it.
    """

    process: Process
    status: Status
    waiter: Connection | None = None
    one_shot: bool = False
    failures: int = 0
    restart_at: float | None = None


class Connection:
    """A client: its unfinished request, its descriptors, and what it has not read yet."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel = channel
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.descriptors: list[int] = []

    def read(self) -> bool:
        """Take what has arrived. False at the end of the stream."""
        data, descriptors, _, _ = socket.recv_fds(self.channel, 1 << 16, MAX_DESCRIPTORS)
        self.descriptors += descriptors
        self.incoming += data
        return bool(data)

    def request(self) -> dict[str, Any] | None:
        line, newline, rest = self.incoming.partition(b"\n")
        if not newline:
            return None
        self.incoming = rest
        message: dict[str, Any] = json.loads(line)
        return message

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.outgoing:
                sent = self.channel.send(self.outgoing)
                del self.outgoing[:sent]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []
        self.channel.close()


class Init:
    """The loop and its table of processes. `listener` is the bound socket."""

    def __init__(self, listener: socket.socket) -> None:
        self.entries: dict[str, Entry] = {}
        self.watchers: set[Connection] = set()
        self.nursery = Nursery()
        self.selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self.listener = listener
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(woken, selectors.EVENT_READ, lambda: self._reap(woken))

    def run(self) -> None:
        """Serve until killed."""
        while True:
            for key, events in self.selector.select(self._timeout()):
                if isinstance(key.data, Connection):
                    self._serve(key.data, events)
                else:
                    key.data()
            self._restart_due()

    # --- connections

    def _accept(self) -> None:
        channel, _ = self.listener.accept()
        connection = Connection(channel)
        self.selector.register(channel, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                connection.flush()
                self._interest(connection)
            if events & selectors.EVENT_READ:
                if not connection.read():
                    self._drop(connection)
                    return
                while (request := connection.request()) is not None:
                    self._answer(connection, request)
        except (OSError, ValueError):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection.channel.fileno() < 0:  # dropped by an earlier event of the same round
            return
        self.selector.unregister(connection.channel)
        self.watchers.discard(connection)
        for entry in self.entries.values():
            if entry.waiter is connection:
                entry.waiter = None
        self.entries = {id: entry for id, entry in self.entries.items() if not _forgotten(entry)}
        connection.close()

    def _send(self, connection: Connection, message: dict[str, Any]) -> None:
        connection.outgoing += json.dumps(message).encode() + b"\n"
        try:
            connection.flush()
            self._interest(connection)
        except OSError:
            self._drop(connection)

    def _interest(self, connection: Connection) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.outgoing else 0)
        self.selector.modify(connection.channel, events, connection)

    # --- requests

    def _answer(self, connection: Connection, request: dict[str, Any]) -> None:
        do = {
            "start": self._start,
            "signal": self._signal,
            "stop": self._stop,
            "list": self._list,
            "remove": self._remove,
            "watch": self._watch,
        }.get(request.get("do", ""))
        try:
            if do is None:
                raise ValueError(f"unknown request {request.get('do')!r}")
            self._send(connection, do(connection, request))
        except (OSError, KeyError, TypeError, ValueError) as error:
            self._send(connection, {"error": _words(error)})

    def _start(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        process = Process.from_json(request["process"])
        known = self.entries.get(process.id)
        if known is not None and known.status.running:
            raise ValueError(f"process {process.id!r} is running already")
        descriptors, connection.descriptors = connection.descriptors, []
        try:
            pid = (self.nursery.spawn if is_born_here(process) else spawn)(process, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        entry = Entry(process, Status(process.id, pid, time.time()))
        if request.get("wait"):
            entry.waiter, entry.one_shot = connection, True
        self.entries[process.id] = entry
        return {"status": vars(entry.status)}

    def _signal(self, _: Connection, request: dict[str, Any]) -> dict[str, Any]:
        entry = self._known(request)
        if entry.status.running:
            os.kill(entry.status.pid, int(request["signum"]))
        return {"status": vars(entry.status)}

    def _stop(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        entry = self._known(request)
        entry.process = replace(entry.process, restart=False)
        entry.restart_at = None
        if entry.status.running:
            entry.waiter = connection
            os.kill(entry.status.pid, signal.SIGTERM)
        return {"status": vars(entry.status)}

    def _list(self, _: Connection, __: dict[str, Any]) -> dict[str, Any]:
        return {"list": [vars(entry.status) for entry in self.entries.values()]}

    def _remove(self, _: Connection, request: dict[str, Any]) -> dict[str, Any]:
        entry = self._known(request)
        if entry.status.running:  # with the children of its session: a plugin that hangs may have some
            os.killpg(entry.status.pid, signal.SIGKILL)
        del self.entries[entry.process.id]
        return {"status": vars(entry.status)}

    def _watch(self, connection: Connection, _: dict[str, Any]) -> dict[str, Any]:
        self.watchers.add(connection)
        return {"watching": True}

    def _known(self, request: dict[str, Any]) -> Entry:
        if request["id"] not in self.entries:
            raise ValueError(f"no process {request['id']!r}")
        return self.entries[request["id"]]

    # --- children

    def _reap(self, woken: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 1 << 12)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, raw = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._ended(pid, os.waitstatus_to_exitcode(raw))

    def _ended(self, pid: int, code: int) -> None:
        entry = next((e for e in self.entries.values() if e.status.pid == pid and e.status.running), None)
        if entry is None:
            return
        now = time.time()
        entry.status = replace(entry.status, exit_code=code, finished=now)
        message = {"status": vars(entry.status)}
        if entry.waiter is not None:
            waiter, entry.waiter = entry.waiter, None
            self._send(waiter, message)
        for watcher in list(self.watchers):
            self._send(watcher, message)
        if _forgotten(entry):
            del self.entries[entry.process.id]
        elif entry.process.restart:
            entry.failures = 0 if now - entry.status.started > RESET_AFTER else entry.failures + 1
            delay = RESTART_DELAYS[min(entry.failures, len(RESTART_DELAYS) - 1)]
            entry.restart_at = time.monotonic() + delay

    def _timeout(self) -> float | None:
        due = [e.restart_at for e in self.entries.values() if e.restart_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _restart_due(self) -> None:
        now = time.monotonic()
        for entry in self.entries.values():
            if entry.restart_at is None or entry.restart_at > now:
                continue
            entry.restart_at = None
            try:
                pid = spawn(entry.process, ())
            except OSError:
                entry.failures += 1
                entry.restart_at = now + RESTART_DELAYS[-1]
            else:
                restarts = entry.status.restarts + 1
                entry.status = Status(entry.process.id, pid, time.time(), restarts=restarts)


def _forgotten(entry: Entry) -> bool:
    return entry.one_shot and entry.waiter is None and not entry.status.running


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def listen(path: str = SOCKET) -> socket.socket:
    """The bound and listening control socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(128)
    return listener
