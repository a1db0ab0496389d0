"""userspace mode: every Service port has a listener in a data plane process, and rules redirect to it.

The process ends with its agent, and what it carries ends with it. So that no Service is gone until another
agent comes, an agent that ends in good order leaves the rules of iptables mode in place of its own.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol as Interface

from testbed.errors import TestbedError
from testbed.kernel.xtables import Xtables
from testbed.model.families import UNSPECIFIED
from testbed.model.service import Protocol, Snapshot
from testbed.proxy.dataplane.control import Change, Done, Key, Listener, receive, send
from testbed.proxy.modes.base import Memo, Mode
from testbed.proxy.modes.chains import rule_set
from testbed.proxy.modes.iptables import Iptables
from testbed.proxy.modes.iptables_rules import ServiceRules, service_rules
from testbed.proxy.modes.userspace_rules import carried, key, redirects, routes
from testbed.proxy.options import ProxyOptions

log = logging.getLogger(__name__)

DATA_PLANE = "testbed.proxy.dataplane"
ANSWER, PORTION = 30.0, 2000
"""Seconds the data plane has to take so many listeners; more come one portion after the other."""


@dataclass(frozen=True)
class Served:
    """What a Snapshot needs: listeners, and rules for what nobody can answer."""

    snapshot: Snapshot
    listeners: dict[Key, Listener]
    refusals: list[ServiceRules]


class DataPlane(Interface):
    """Something that listens, as the agent sees it."""

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    def change(self, change: Change) -> Done:
        """Raises TestbedError when it does not happen."""
        ...

    def close(self) -> None: ...


class Plane:
    """The data plane process as the agent sees it. It ends with the agent, since its channel closes."""

    def __init__(self, options: ProxyOptions) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(ANSWER)
        address = UNSPECIFIED[options.family]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", DATA_PLANE, str(theirs.fileno()), address, str(options.udp_timeout)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def change(self, change: Change) -> Done:
        """Raises TestbedError when the data plane does not answer."""
        done, keys = Done({}, {}), list(change.serve)
        for start in range(0, max(1, len(keys)), PORTION):
            serve = {key: change.serve[key] for key in keys[start : start + PORTION]}
            part = self._portion(Change(serve, () if start else change.close))
            done.ports.update(part.ports)
            done.errors.update(part.errors)
        return done

    def _portion(self, change: Change) -> Done:
        try:
            send(self._channel, change)
            done: Done = receive(self._channel)
        except (OSError, EOFError) as error:
            raise TestbedError(
                f"the userspace data plane (pid {self.pid}) does not answer: {error}"
            ) from None
        return done

    def close(self) -> None:
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._process.kill()
        self._process.wait()


class Userspace(Mode[Served]):
    """Two steps a sync: the data plane gets its listeners, then the rules lead to their ports."""

    title = "userspace"

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)
        self._memo = Memo(lambda service: service_rules(carried(service), options))
        self._warned: set[str] = set()
        self._served: Snapshot | None = None

    def start(self) -> str:
        xtables = Xtables(self.options.family)
        self._rules = rule_set(xtables)
        self._plane = self.data_plane()
        self._listeners: dict[Key, Listener] = {}
        self._ports: dict[Key, int] = {}
        return f"{xtables.version}, data plane is pid {self._plane.pid}"

    @property
    def carrier(self) -> int:
        """The pid of what carries the bytes."""
        return self._plane.pid

    def data_plane(self) -> DataPlane:
        """What carries the bytes, started anew."""
        return Plane(self.options)

    def render(self, snapshot: Snapshot) -> Served:
        listeners = {}
        for service in snapshot.services.values():
            if service.protocol is Protocol.SCTP and service.name not in self._warned:
                self._warned.add(service.name)
                log.warning('Service port "%s" is refused: userspace mode has no SCTP', service.name)
            for route in routes(service):
                listeners[key(service, route)] = Listener(
                    tuple((one.ip, one.port) for one in route.endpoints), service.affinity_seconds
                )
        return Served(snapshot, listeners, self._memo.of(snapshot))

    def sync(self, state: Served, *, repair: bool = False) -> int:
        if not self._plane.alive:
            log.error("The data plane (pid %d) has ended, starting another", self._plane.pid)
            self._plane.close()
            self._plane = self.data_plane()
            self._listeners, self._ports = {}, {}
        serve = {name: one for name, one in state.listeners.items() if self._listeners.get(name) != one}
        gone = tuple(self._listeners.keys() - state.listeners.keys())
        if serve:
            self._take(self._plane.change(Change(serve)), serve)
        for name in gone:
            del self._ports[name], self._listeners[name]
        rules = redirects(state.snapshot, self._ports, state.refusals, self.options)
        changes = self._rules.apply(rules, repair=repair)
        if gone:  # after the rules that led there
            self._plane.change(Change(close=gone))
        self._served = state.snapshot
        return changes + len(serve) + len(gone)

    def healthy(self) -> bool:
        return self._plane.alive

    def stop(self) -> None:
        try:
            if self._served:
                successor = Iptables(self.options)
                successor.start()
                successor.sync(successor.render(self._served))
                log.info(
                    "IPv%d: until another agent comes, rules as of iptables mode serve", self.options.family
                )
        except TestbedError as error:
            log.warning("Services are not served until another agent comes: %s", error)
        finally:
            if hasattr(self, "_plane"):
                self._plane.close()

    def _take(self, done: Done, serve: dict[Key, Listener]) -> None:
        self._ports.update(done.ports)
        self._listeners.update({name: serve[name] for name in done.ports})
        for name, error in done.errors.items():
            log.error('Service port "%s" (%s) cannot be served: %s', name[0], name[1], error)
