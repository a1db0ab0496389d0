"""One nftables table of the current network namespace: what it holds, and its difference in one transaction.

A table is named with its family: `ip kube-proxy`.

Rules, verdicts and definitions are spelled exactly as `nft -y list table` prints them, so that what is wanted
and what the kernel has compare as strings.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from testbed.errors import TestbedError

Rules = tuple[str, ...]
Script = list[str]
"""Commands for `nft -f`: one transaction."""
Steps = list[Script]
"""Scripts that leave something whole behind each; neighbours may be committed together."""

AT_ONCE = 500
"""Anonymous maps in one transaction. The kernel searches them in a list for each rule that has one: 5,000 at
once take 8 s, in portions of this size 2 s."""
_BLOCK = re.compile(r"(set|map|chain) (\S+) {")


class NftError(TestbedError):
    """nft could not read or change a table. Holds its own first complaint."""


@dataclass(frozen=True)
class Set:
    """A set, or a map if its definition says so: `type ipv4_addr : verdict`; further lines: `timeout 3h`, …

    `elements`: key → verdict, or "" in a set. Those of a dynamic set are made by packets: none here.
    """

    definition: Rules
    elements: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "map" if " : " in self.definition[0] else "set"


@dataclass(frozen=True)
class Table:
    """`hooks`: base chain → `type nat hook output priority -100; policy accept;`. `chains` has them too."""

    hooks: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, Rules] = field(default_factory=dict)
    sets: Mapping[str, Set] = field(default_factory=dict)
    dormant: bool = False
    """Somebody has switched the table off."""

    def fits(self, other: Table) -> bool:
        """Whether this can become `other` by changing only rules and elements."""
        same = self.sets.keys() & other.sets.keys()
        alike = all(self.sets[name].definition == other.sets[name].definition for name in same)
        return self.dormant == other.dormant and self.hooks == other.hooks and alike


def run(arguments: list[str], script: str = "") -> str:
    """What nft prints. Raises NftError."""
    try:
        done = subprocess.run(["nft", *arguments], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NftError("nft is not on PATH; install the package nftables") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NftError(f"nft: {said[0] if said else done.returncode}")
    return done.stdout


def exists(name: str) -> bool:
    """Whether there is such a table. Raises NftError where nft or the kernel cannot tell."""
    return f"table {name}" in run(["list", "tables"]).splitlines()


def read(name: str) -> Table | None:
    """What the table holds, None if there is none. Raises NftError."""
    return parsed(run(["-y", "list", "table", *name.split()])) if exists(name) else None


def commit(steps: Steps) -> int:
    """Make the changes; returns the number of transactions. Raises NftError: the one that failed has changed
    nothing."""
    done = 0
    for script in transactions(steps):
        run(["-f", "-"], text([script]))
        done += 1
    return done


def text(steps: Steps) -> str:
    """As `nft -f` takes it."""
    return "".join(f"{command}\n" for step in steps for command in step)


def transactions(steps: Steps) -> Iterator[Script]:
    """The steps in one transaction, unless they have very many anonymous maps. What has none goes with what
    is before it: so the elements, which lead packets to the chains, and the removals are in the last one."""
    pending: Script = []
    maps = 0
    for step in steps:
        count = sum(" vmap { " in command for command in step)
        if maps and maps + count > AT_ONCE:
            yield pending
            pending, maps = [], 0
        pending += step
        maps += count
    if pending:
        yield pending


def removal(name: str) -> Steps:
    """Removes the table, if it is there."""
    return [[f"add table {name}", f"delete table {name}"]]


def creation(name: str, want: Table) -> Steps:
    """The whole table anew, whatever was there."""
    hooked = [f"add chain {name} {chain} {{ {hook} }}" for chain, hook in want.hooks.items()]
    start = [*removal(name), [f"add table {name}", *hooked]]
    return start + edits(name, Table(want.hooks, dict.fromkeys(want.hooks, ())), want)


def edits(name: str, have: Table, want: Table) -> Steps:
    """What turns `have`, which fits, into `want`. First all that is referred to, last what is so no more."""
    where = name
    changed = {
        chain: rules
        for chain, rules in want.chains.items()
        if (old := have.chains.get(chain)) is not rules and old != rules
    }
    new = [(known, one) for known, one in want.sets.items() if known not in have.sets]
    steps = [
        [f"add {one.kind} {where} {known} {{ {'; '.join(one.definition)}; }}" for known, one in new],
        [f"add chain {where} {chain}" for chain in changed if chain not in have.chains],
    ]
    for chain, rules in changed.items():
        flush = [f"flush chain {where} {chain}"] if have.chains.get(chain) else []
        steps.append([*flush, *(f"add rule {where} {chain} {rule}" for rule in rules)])
    for known, one in want.sets.items():
        old_set = have.sets.get(known)
        steps.append(list(_elements(f"{where} {known}", old_set.elements if old_set else {}, one.elements)))
    gone = [chain for chain in have.chains if chain not in want.chains]
    unused = [(known, one) for known, one in have.sets.items() if known not in want.sets]
    steps += [
        [f"flush chain {where} {chain}" for chain in gone],
        [f"delete {one.kind} {where} {known}" for known, one in unused],
        [f"delete chain {where} {chain}" for chain in gone],
    ]
    return [step for step in steps if step]


def _elements(where: str, have: Mapping[str, str], want: Mapping[str, str]) -> Iterator[str]:
    if have is want:
        return
    for verb, some in (("delete", have.items() - want.items()), ("add", want.items() - have.items())):
        if some:
            listed = ", ".join(f"{key} : {value}" if value else key for key, value in sorted(some))
            yield f"{verb} element {where} {{ {listed} }}"


def parsed(text: str) -> Table:
    """The output of `nft -y list table`."""
    hooks: dict[str, str] = {}
    chains: dict[str, Rules] = {}
    sets: dict[str, Set] = {}
    for kind, name, lines in _blocks(text):
        if kind == "chain":
            if lines and " hook " in lines[0]:
                hooks[name] = lines.pop(0)
            chains[name] = tuple(lines)
        else:
            at = next((i for i, line in enumerate(lines) if line.startswith("elements = {")), len(lines))
            definition = tuple(lines[:at])
            dynamic = any(line.startswith("flags ") and "dynamic" in line for line in definition)
            sets[name] = Set(definition, {} if dynamic else _read_elements(" ".join(lines[at:])))
    return Table(hooks, chains, sets, dormant="\n\tflags dormant\n" in text)


def _blocks(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Each set, map and chain with the lines inside it."""
    head: re.Match[str] | None = None
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if head is None:
            head, lines = _BLOCK.fullmatch(line), []
        elif line == "}":
            yield head[1], head[2], lines
            head = None
        else:
            lines.append(line)


def _read_elements(text: str) -> dict[str, str]:
    """`elements = { 10.96.0.1 . tcp . 443 : goto x, … }`."""
    inside = text.removeprefix("elements = {").removesuffix("}").strip()
    found = (one.partition(" : ") for one in inside.split(", ") if one)
    return {key: value for key, _, value in found}
