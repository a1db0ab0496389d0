"""The seam to where things are measured: Pods, nodes, the client outside. An environment is one `Site`.

Functions that measure are plain functions of modules of this package; a Place runs them inside its network
namespace, wherever that is: here in a forked child (`testbed.kernel.netns.Worker`), elsewhere in a Python
that takes the same pickled calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from testbed.model.topology import ClusterSpec

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A call under way."""

    def result(self, timeout: float | None = None) -> T_co:
        """What the call returned, or its exception raised here. TimeoutError after `timeout` seconds."""
        ...


class Place(Protocol):
    """One network namespace to work in. Calls run one after the other, in order."""

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]: ...

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


@dataclass(frozen=True)
class Usage:
    """What processes have used: seconds of CPU, user and system, and the bytes now resident."""

    cpu: float
    rss: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu + other.cpu, self.rss + other.rss)


class Site(Protocol):
    """A cluster to measure in, up and Ready, whose nodes are named as the run's columns."""

    @property
    def kubeconfig(self) -> Path:
        """Reaches the API server from here."""
        ...

    @property
    def spec(self) -> ClusterSpec: ...

    def pod(self, pod: Mapping[str, Any]) -> AbstractContextManager[Place]:
        """Inside a Pod, as the API gives it."""
        ...

    def node(self, name: str) -> AbstractContextManager[Place]:
        """In a node's network namespace; `client` is the client outside."""
        ...

    def run(self, node: str, argv: Sequence[str]) -> str:
        """Run a command on a node, in that node's own file system; what it printed."""
        ...

    def agent(self, node: str) -> Usage:
        """What the node's proxy agent and its children use."""
        ...

    def busy(self) -> float:
        """Seconds of CPU that all processes of the cluster have used."""
        ...

    def hold(self, node: str, held: bool) -> None:
        """Stop the node's proxy agent where it is, or let it go on (SIGSTOP, SIGCONT)."""
        ...

    def restart(self, node: str) -> None:
        """End the node's proxy agent and start it again; returns when it was started."""
        ...
