"""What a proxy mode is: a pure rendering of a Snapshot, and a way to make the kernel hold it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from testbed.kernel.ruleset import RuleSet
from testbed.model.service import ServicePort, Snapshot
from testbed.proxy.options import ProxyOptions

State = TypeVar("State")
Rendered = TypeVar("Rendered")


class Memo(Generic[Rendered]):
    """Renders each Service port once, and again only when it is another object than in the last Snapshot."""

    def __init__(self, render: Callable[[ServicePort], Rendered]) -> None:
        self._render = render
        self._held: dict[tuple[str, str], tuple[ServicePort, Rendered]] = {}

    def of(self, snapshot: Snapshot) -> list[Rendered]:
        """What every Service port of `snapshot` is rendered to, in its order."""
        before, self._held = self._held, {}
        for key, service in snapshot.services.items():
            held = before.get(key)
            self._held[key] = held if held and held[0] is service else (service, self._render(service))
        return [rendered for _, rendered in self._held.values()]


class Mode(ABC, Generic[State]):
    """One proxy mode in one network namespace. All calls come from one thread that runs no event loop."""

    title: str
    """As the log says it: "Using iptables Proxier."."""
    _rules: RuleSet
    """The mode's iptables rules, where it has any, from `start` on."""

    def __init__(self, options: ProxyOptions) -> None:
        self.options = options

    def start(self) -> str:
        """Prepare the kernel (sysctls, devices). Returns what to log of it. Raises TestbedError."""
        return ""

    @abstractmethod
    def render(self, snapshot: Snapshot) -> State:
        """What the kernel should hold. Pure."""

    @abstractmethod
    def sync(self, state: State, *, repair: bool = False) -> int:
        """Apply the difference to what is known to be there; returns how many changes were made.

        With `repair`, what is there is read from the kernel and not taken from memory. Raises TestbedError;
        the next sync is then a repair.
        """

    def rule_counts(self) -> tuple[dict[str, float], dict[str, float]]:
        """By iptables table: the rules that are there, and the lines that the last sync changed them by."""
        rules: RuleSet | None = getattr(self, "_rules", None)
        return (rules.counts(), dict(rules.written)) if rules else ({}, {})

    def healthy(self) -> bool:
        """Whether what runs in the background still runs; if not, the next sync sets it right. Cheap."""
        return True

    def stop(self) -> None:
        """End what runs in the background. Rules stay: traffic outlives its agent."""

    @classmethod
    def cleanup(cls) -> None:
        """Remove what this mode leaves behind besides iptables rules. Does nothing when there is nothing."""
