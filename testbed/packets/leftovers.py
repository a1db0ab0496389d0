"""The marks of each proxy mode on a node: to see that a mode that was switched away from is gone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from testbed.packets.patience import until

SECONDS = 30.0
"""How long a proxy may take to clean up after its predecessor."""

Run = Callable[[Sequence[str]], str]
"""Runs a command on a node and returns what it prints, "" where the node has no such command."""


@dataclass(frozen=True)
class Trace:
    """Lines of a command's output that only this mode causes."""

    command: tuple[str, ...]
    pattern: str


CHAINS = (("iptables-save",), ("ip6tables-save",))
_PORTALS = tuple(Trace(command, r"^:KUBE-(?:PORTALS|NODEPORT)-\w+") for command in CHAINS)

TRACES: dict[str, tuple[Trace, ...]] = {
    "iptables": tuple(Trace(command, r"^:KUBE-(?:SVC|SVL|SEP|EXT|FW)-\w+") for command in CHAINS),
    "ipvs": (
        Trace(("cat", "/proc/net/ip_vs"), r"^(?:TCP|UDP|SCTP) +\S+"),
        Trace(("ip", "-oneline", "link"), r"\bkube-ipvs0\b"),
        Trace(("ipset", "list", "-name"), r"^KUBE-\S+"),
    ),
    "nftables": (Trace(("nft", "list", "tables"), r"\bkube-proxy\b"),),
    "userspace": _PORTALS,
    "userspace-haproxy": (*_PORTALS, Trace(("ps", "-e", "-o", "comm"), r"^haproxy$")),
}
"""By mode. The chains that several modes use, KUBE-SERVICES and KUBE-NODEPORTS say, are nobody's trace."""


def found(mode: str, run: Run, successor: str = "") -> list[str]:
    """What is there of `mode`, as it shows itself; but for what `successor` has too."""
    return [
        match.group(0).lstrip(":")
        for trace in TRACES.get(mode, ())
        if trace not in TRACES.get(successor, ())
        for match in re.finditer(trace.pattern, run(trace.command), re.MULTILINE)
    ]


def remaining(mode: str, run: Run, successor: str) -> list[str]:
    """What is still there of `mode` after its successor had time to clean up."""
    left: list[str] = []

    def gone() -> bool:
        left[:] = found(mode, run, successor)
        return not left

    until(gone, SECONDS, pause=0.2)
    return left
