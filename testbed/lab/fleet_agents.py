"""The proxy agents of a fleet's machines, changed together over ssh and set back at the end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from testbed.errors import TestbedError, UsageError
from testbed.lab import fleet, fleet_ssh
from testbed.lab.fleet_ssh import Machine


@dataclass(frozen=True)
class Agents:
    """Those of some machines, by name."""

    machines: Mapping[str, Machine]

    def set_proxy(self, mode: str) -> None:
        """Start all anew in another mode; returns when they were started. Raises TestbedError."""
        if trouble := self._each(lambda machine: machine.set_proxy(mode)):
            raise trouble[0]

    def own_proxy(self) -> list[TestbedError]:
        """Each again as its machine was set up. Returns what went wrong, if something did."""
        return self._each(Machine.own_proxy)

    def run(self, node: str, argv: Sequence[str]) -> str:
        """Run `argv` on a machine; what it printed. Raises TestbedError."""
        return self.machines[node].run(argv)

    def _each(self, work: Callable[[Machine], None]) -> list[TestbedError]:
        """Do `work` on all machines at once."""

        def tried(machine: Machine) -> TestbedError | None:
            try:
                work(machine)
            except TestbedError as error:
                return error
            return None

        with ThreadPoolExecutor(len(self.machines)) as threads:
            return [error for error in threads.map(tried, self.machines.values()) if error]


@contextlib.contextmanager
def borrowed(names: Iterable[str], say: Callable[[str], None]) -> Iterator[Agents]:
    """The agents of some machines of the fleet, for this run alone; at exit, by Ctrl-C too, as before it.

    Raises UsageError when another run has the fleet, or the inventory knows no such machine.
    """
    with fleet.locked():
        path = fleet.inventory(None)
        known = fleet_ssh.machines(path)
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"{path} has no {', '.join(unknown)}: testbed fleet up --inventory FILE")
        agents = Agents({name: known[name] for name in names})
        try:
            yield agents
        finally:
            with uninterrupted():
                for trouble in agents.own_proxy():
                    say(f"its agent is not as it was: {trouble}")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait, for this process and what it starts: something is being put right."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
