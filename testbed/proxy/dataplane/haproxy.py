"""HAProxy as the data plane of userspace mode, for TCP: what a compiled proxy costs in place of ours.

The agent holds the listening sockets, and HAProxy inherits them. Endpoints come and go by run-time commands,
and a new Service port takes a spare section; only when there is none left is HAProxy started anew, with more.
The new process serves the same sockets, and the old one ends with its last connection: no client notices.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from testbed.proxy.dataplane.balance import Address
from testbed.proxy.dataplane.control import Change, Done, Key
from testbed.proxy.dataplane.haproxy_admin import HaproxyError, Named, Running
from testbed.proxy.dataplane.haproxy_config import Section
from testbed.proxy.dataplane.limits import raise_limits

log = logging.getLogger(__name__)

SPARE, SPARE_SHARE = 16, 4
"""A start makes this many spare sections, or a quarter of those in use if that is more."""
BACKLOG = 1024


@dataclass(eq=False)
class Slot:
    """A listening socket and its section. Servers that are `leaving` stay for the connections they have."""

    name: str
    socket: socket.socket
    wanted: frozenset[Address] = frozenset()
    running: frozenset[Address] = frozenset()
    leaving: set[Address] = field(default_factory=set)

    def section(self) -> Section:
        return Section(self.name, self.socket.fileno(), tuple(sorted(self.wanted)))


class Haproxy:
    """HAProxy as the agent sees it. `address`: where it listens, on ports of the kernel's choice."""

    def __init__(self, address: str) -> None:
        raise_limits()
        self._address = address
        self._taken: dict[Key, Slot] = {}
        self._spare: list[Slot] = []
        self._leaving: set[Slot] = set()
        self._made = 0
        self._ended: list[Running] = []
        self._running: Running | None = None
        self._sure = False
        """Whether the process runs as the slots say."""
        self._start()

    @property
    def pid(self) -> int:
        return self._running.process.pid if self._running else 0

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.alive

    def change(self, change: Change) -> Done:
        """Raises HaproxyError when it does not start."""
        changed = [self._free(slot) for key in change.close if (slot := self._taken.pop(key, None))]
        fits, self._sure = self._sure, False
        errors: dict[Key, str] = {}
        for key, wanted in change.serve.items():
            try:
                slot, found = self._slot(key)
            except OSError as error:
                errors[key] = str(error.strerror or error)
                continue
            fits &= found
            slot.wanted = frozenset(wanted.endpoints)
            changed.append(slot)
        if not (fits and self._told(changed)):
            self._start()
        self._sure = True
        ports = {
            key: int(self._taken[key].socket.getsockname()[1]) for key in change.serve if key not in errors
        }
        return Done(ports, errors)

    def close(self) -> None:
        for one in (*self._ended, self._running):
            if one:
                one.process.kill()
                one.process.wait()
        for slot in (*self._taken.values(), *self._spare):
            slot.socket.close()

    def _slot(self, key: Key) -> tuple[Slot, bool]:
        """The section for `key`, and whether the running configuration has it."""
        slot, found = self._taken.get(key), True
        if slot is None:
            found = bool(self._spare)
            slot = self._taken[key] = self._spare.pop() if found else self._make()
        return slot, found

    def _free(self, slot: Slot) -> Slot:
        """Rules lead there no more."""
        slot.wanted = frozenset()
        self._spare.append(slot)
        return slot

    def _make(self) -> Slot:
        self._made += 1
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listening = socket.create_server((self._address, 0), family=family, backlog=BACKLOG)
        return Slot(f"s{self._made}", listening)

    def _start(self) -> None:
        """A new process with all that is wanted now."""
        lacking = max(SPARE, len(self._taken) // SPARE_SHARE) - len(self._spare)
        self._spare += [self._make() for _ in range(lacking)]
        slots = [*self._taken.values(), *self._spare]
        before = self._running
        self._running = Running([slot.section() for slot in slots], before)
        self._ended = [one for one in (*self._ended, before) if one and one.alive]
        self._leaving.clear()
        for slot in slots:
            slot.running = slot.wanted
            slot.leaving.clear()
        self._sure = True

    def _told(self, changed: Iterable[Slot]) -> bool:
        """Tell the running process of these sections' servers. False when it is not as was believed."""
        new: list[Named] = []
        back: list[Named] = []
        gone: list[Named] = []
        for slot in changed:
            for one in sorted(slot.wanted - slot.running):
                (back if one in slot.leaving else new).append((slot.name, one))
            gone += [(slot.name, one) for one in slot.running - slot.wanted]
            slot.leaving = (slot.leaving | slot.running) - slot.wanted
            slot.running = slot.wanted
            if slot.leaving:
                self._leaving.add(slot)
        assert self._running
        try:
            self._running.add(new)
            self._running.restore(back)
            self._running.retire(gone)
            held = set(
                self._running.delete([(slot.name, one) for slot in self._leaving for one in slot.leaving])
            )
        except HaproxyError as error:
            log.warning("Starting HAProxy anew: %s", error)
            return False
        for slot in list(self._leaving):
            slot.leaving = {one for one in slot.leaving if (slot.name, one) in held}
            if not slot.leaving:
                self._leaving.discard(slot)
        return True
