"""The columns of the matrix: a proxy mode, perhaps with a variant of iptables, or with part of the cases."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from testbed.errors import UsageError
from testbed.model.cases import CASES, LIVE_CASES, Case, live_version
from testbed.model.families import VERSIONS

VARIANTS = {"iptables-legacy": ("iptables", "legacy"), "iptables-nft": ("iptables", "nft")}
"""Names of columns that are a mode with a variant of iptables; a mode's own name takes the machine's."""


@dataclass(frozen=True)
class Column:
    """`text`: as the user wrote it. `variant`: "" for the machine's own. `live`: names of live cases."""

    text: str
    name: str
    mode: str
    variant: str
    cases: tuple[Case, ...]
    live: tuple[str, ...] = ()


def parse(
    text: str,
    known: Iterable[str],
    glob: str,
    *,
    any_mode: bool = False,
    families: Sequence[int] = VERSIONS,
) -> tuple[Column, ...]:
    """`iptables-legacy,ipvs@*/tcp`: modes, after each @ with a pattern of their own for the names of cases.

    Raises UsageError for a mode that is not `known` (`any_mode` takes others too), and when no case matches.
    """
    columns = []
    for word in dict.fromkeys(text.split(",")):
        name, *own = word.strip().split("@")
        mode, variant = VARIANTS.get(name, (name, ""))
        names = (*known, *VARIANTS)
        if not name or (mode not in known and not any_mode):
            raise UsageError(f"unknown proxy mode {name!r}; known are {', '.join(names)}")
        cases = tuple(case for case in CASES if case.version in families and _match(case.name, glob, *own))
        live = tuple(one for one in LIVE_CASES if live_version(one) in families and _match(one, glob, *own))
        columns.append(Column(word.strip(), name, mode, variant, cases, live))
    if not any(column.cases or column.live for column in columns):
        raise UsageError(f"--cases {glob!r} matches none of {len(CASES)} cases; one is {CASES[0].name}")
    return tuple(columns)


def _match(name: str, *globs: str) -> bool:
    return all(fnmatchcase(name, glob or "*") for glob in globs)


def only(column: Column, protocol: str) -> Column:
    """Its cases of one protocol. None of the live ones is of a protocol that a kernel may lack."""
    text = f"{column.text}@*/{protocol.lower()}"
    return replace(column, text=text, cases=of_protocol(column, protocol), live=())


def without(column: Column, protocol: str) -> Column:
    """Its other cases."""
    return replace(column, cases=tuple(case for case in column.cases if case.protocol != protocol))


def of_protocol(column: Column, protocol: str) -> tuple[Case, ...]:
    return tuple(case for case in column.cases if case.protocol == protocol)


def usual(modes: Iterable[str]) -> str:
    """What is verified unless told otherwise: `modes`, iptables in each variant that is installed."""
    from testbed.kernel import features

    variants = [name for name in VARIANTS if features.has(name)] or ["iptables"]
    return ",".join(name for mode in modes for name in (variants if mode == "iptables" else [mode]))


def own_variant() -> str:
    """The variant of this machine's `iptables`."""
    return variant_in(version())


def variant_in(version: str) -> str:
    """The variant that says this of itself."""
    return "legacy" if "legacy" in version else "nft"


def version() -> str:
    """What `iptables --version` says here, and so on the nodes: they see this machine's programs."""
    path = shutil.which("iptables", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return subprocess.run([path, "--version"], capture_output=True, text=True).stdout.strip() if path else ""
