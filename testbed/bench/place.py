"""The seam to where things are measured: Pods, nodes, the client outside. An environment is one `Site`.

Functions that measure are plain functions of modules of this package; a Place runs them inside its network
namespace, wherever that is: here in a forked child (`testbed.kernel.netns.Worker`), on another machine in a
Python that `testbed.bench.there` serves. Functions, arguments and results travel pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

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


class Site(Protocol):
    """A cluster to measure in, up and Ready.

    `kubeconfig` reaches its API server from here. `spec` has its nodes, by the names of the run's columns.
    """

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def spec(self) -> ClusterSpec: ...

    def pod(self, name: str) -> AbstractContextManager[Place]:
        """Inside a Pod of namespace `default`."""
        ...

    def node(self, name: str) -> AbstractContextManager[Place]:
        """In a node's network namespace; `client` is the client outside."""
        ...

    def run(self, node: str, argv: Sequence[str]) -> str:
        """Run a command on a node, with that node's own file system; what it printed. Raises TestbedError."""
        ...

    def restart_proxy(self, node: str) -> None:
        """Stop the node's proxy agent and start it again; returns when it was started."""
        ...
