"""What a proxy mode is: a pure rendering of a Snapshot, and a way to make the kernel hold it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from testbed.model.service import Snapshot
from testbed.proxy.options import ProxyOptions

State = TypeVar("State")


class Mode(ABC, Generic[State]):
    """One proxy mode in one network namespace. All calls come from one thread that runs no event loop."""

    title: str
    """As the log says it: "Using iptables Proxier."."""

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

    def stop(self) -> None:
        """End what runs in the background. Rules stay: traffic outlives its agent."""

    @classmethod
    def cleanup(cls) -> None:
        """Remove what this mode leaves behind besides iptables rules. Does nothing when there is nothing."""
