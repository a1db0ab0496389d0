"""IP sets of the current network namespace, by `ipset save` and `restore`: one process for all entries."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from testbed.errors import TestbedError

MAX_ENTRIES = 1 << 20
_HASH = "family {} hashsize 1024 maxelem " + str(MAX_ENTRIES)
KINDS = {
    "bitmap:port": "range 0-65535",
    **dict.fromkeys(("hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net"), _HASH),
}
_FAMILIES = {4: "inet", 6: "inet6"}


@dataclass(frozen=True)
class IpSet:
    """A set: its type and its entries, spelled as `ipset save` prints them; and the IP family of those."""

    kind: str
    entries: Collection[str] = field(default_factory=frozenset)
    family: int = 4


Sets = Mapping[str, IpSet]


def read(prefix: str) -> dict[str, IpSet]:
    """The sets whose names begin with `prefix`."""
    found: dict[str, IpSet] = {}
    entries: dict[str, set[str]] = {}
    for line in _ipset("save").splitlines():
        words = line.split()
        if words[0] == "create" and words[1].startswith(prefix):
            entries[words[1]] = set()
            found[words[1]] = IpSet(words[2], entries[words[1]], 6 if "inet6" in words else 4)
        elif words[0] == "add" and words[1] in entries:
            entries[words[1]].add(words[2])
    return found


def change(have: Sets, want: Sets) -> int:
    """Turn `have` into `want`; sets not in `want` stay. Returns the number of commands."""
    lines = []
    for name, wanted in want.items():
        held = have.get(name)
        if held is wanted:
            continue
        if held is None:
            details = KINDS[wanted.kind].format(_FAMILIES[wanted.family])
            lines.append(f"create {name} {wanted.kind} {details}")
        old = set(held.entries) if held else set()
        new = set(wanted.entries)
        lines += [f"del {name} {entry}" for entry in old - new]
        lines += [f"add {name} {entry}" for entry in new - old]
    if lines:
        _ipset("restore", "-exist", stdin="\n".join([*lines, ""]))
    return len(lines)


def destroy(names: Collection[str]) -> None:
    """Remove sets that no rule refers to any more."""
    if names:
        _ipset("restore", stdin="".join(f"destroy {name}\n" for name in names))


def _ipset(*arguments: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(["ipset", *arguments], input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TestbedError("ipset is not on PATH; install the package ipset") from None
    if done.returncode:
        raise TestbedError(f"ipset {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout
