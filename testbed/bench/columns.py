"""The columns of a comparison: direct, the proxy modes in their variants, and proxies of the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from testbed.errors import UsageError
from testbed.proxy.modes import NAMES

DIRECT = "direct"
"""Pod to Pod without a Service: what the network costs before any proxy."""

OWN = "own"
"""The proxy mode of a node that runs the user's command."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,22}[a-z0-9])?")
RESERVED = (DIRECT, "server", "controlplane", "client", "fabric")


@dataclass(frozen=True)
class Column:
    """One proxy to be measured, and how its node is set up.

    `iptables`: the variant its node uses, nft or legacy; "": the machine's own. `command`: a program that
    takes the agent's place.
    """

    name: str
    mode: str
    iptables: str = ""
    command: str = ""

    @property
    def answers_itself(self) -> bool:
        """Whether the proxy completes the handshake, before it knows anything of the backend."""
        return self.mode.startswith("userspace")


VARIANTS = {"iptables-legacy": ("iptables", "legacy"), "iptables-nft": ("iptables", "nft")}
COLUMNS = {
    **{mode: Column(mode, mode) for mode in NAMES},
    **{name: Column(name, mode, variant) for name, (mode, variant) in VARIANTS.items()},
}
DEFAULT = ("iptables", "ipvs", "nftables", "userspace")


def parse_modes(text: str, known: Iterable[str] = COLUMNS) -> tuple[str, ...]:
    """`iptables,ipvs`. Raises UsageError for a mode that is not `known`, none at all, or one named twice."""
    modes = tuple(part.strip() for part in text.split(",") if part.strip())
    for mode in modes:
        if mode not in known:
            raise UsageError(f"unknown mode {mode!r}; benchmarks know {', '.join(known)}")
    if not modes or len(set(modes)) < len(modes):
        raise UsageError(f"--modes {text!r}: name each mode once, such as iptables,ipvs")
    return modes


def parse_proxy(text: str) -> Column:
    """`NAME=CMD …`, a proxy of the user's own. Raises UsageError."""
    name, equals, command = text.partition("=")
    if not equals or not command.strip():
        raise UsageError(f"--proxy {text!r} is not NAME='COMMAND …', such as kp='/path/kube-proxy …'")
    if not _NAME.fullmatch(name) or name in (*COLUMNS, *RESERVED):
        raise UsageError(
            f"--proxy {name!r}: choose a name of a-z, 0-9 and -, 24 characters at most, that is no mode's"
        )
    return Column(name, OWN, command=command.strip())


def columns(modes: str, proxies: Sequence[str] = ()) -> tuple[Column, ...]:
    """What `--modes` and all `--proxy` name together. Raises UsageError."""
    own = tuple(parse_proxy(text) for text in proxies)
    names = [column.name for column in own]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--proxy {name!r} is named twice")
    return (*(COLUMNS[name] for name in parse_modes(modes)), *own)
