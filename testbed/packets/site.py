"""The seam to a cluster that is verified: namespaces of this machine, or a fleet."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from testbed.model.topology import ClusterSpec


class Machine(Protocol):
    """A node, or the client outside."""

    @property
    def name(self) -> str: ...

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `argv` there as root, to its end; subprocess.run's `check` and `timeout`."""
        ...


class Site(Protocol):
    """A cluster that is up."""

    @property
    def spec(self) -> ClusterSpec: ...

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def sctp(self) -> bool:
        """Whether the nodes' kernels have it."""
        ...

    @property
    def variant(self) -> str:
        """What the nodes call `iptables`, unless told otherwise: legacy or nft."""
        ...

    def machine(self, name: str) -> Machine:
        """A machine by name: a node's, or `client`."""
        ...

    def set_proxy(
        self, mode: str, *, command: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the proxies of all nodes anew: in `mode`, or as the user's `command`."""
        ...

    def choose_iptables(self, variant: str) -> None:
        """Have no proxy, no rules of one, and `iptables` mean another variant. Raises UsageError."""
        ...
