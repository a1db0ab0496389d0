"""The chains of one owner in the iptables of a network namespace, kept as wanted among everybody else's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from testbed.kernel.xtables import (
    NFT_CHUNK,
    Rules,
    Table,
    Tables,
    Xtables,
    XtablesError,
    generation,
    jump_edits,
    table_edits,
    transaction,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Chains by table, leaves first, and the jumps to them: table → built-in chain → rules, to come first."""

    tables: Mapping[str, Mapping[str, Rules]] = field(default_factory=dict)
    jumps: Mapping[str, Mapping[str, Rules]] = field(default_factory=dict)


class RuleSet:
    """Applies what is wanted by its difference to what the kernel is known to hold.

    `owns(chain)` tells the owner's chains, present or left over: those not wanted are removed, and so are
    jumps to them. Every other chain and rule is left as it is.
    """

    def __init__(self, xtables: Xtables, owns: Callable[[str], bool], tables: tuple[str, ...]) -> None:
        self.xtables = xtables
        self.owns = owns
        self.tables = tables
        self._known: Tables | None = None
        self._generation = 0
        self.written: dict[str, float] = {}
        """Lines given to iptables-restore by the last `apply`, by table."""

    def apply(self, wanted: Wanted, *, repair: bool = False) -> int:
        """Make the kernel hold `wanted`; returns the number of lines given to iptables-restore.

        With `repair`, what the kernel holds is read anew, unless nobody can have changed it. When a restore
        fails because of someone else's change, it is read and tried once more. Raises XtablesError.
        """
        fresh = self._known is None or (repair and self._touched())
        try:
            return self._apply(wanted, fresh)
        except XtablesError as error:
            if fresh:
                raise
            log.warning("Rules were changed by someone else, reading them anew: %s", error)
            return self._apply(wanted, True)

    def counts(self) -> dict[str, float]:
        """How many rules the kernel is known to hold, by table."""
        known = self._known or {}
        return {table: float(sum(map(len, chains.values()))) for table, chains in known.items()}

    def _touched(self) -> bool:
        return not self.xtables.is_nft or generation() != self._generation

    def _apply(self, wanted: Wanted, fresh: bool) -> int:
        outside: Tables = {}
        if fresh:
            before = generation()
            self._known = {}
            for name in self.tables:
                table = self.xtables.read(name)
                self._known[name] = {chain: rules for chain, rules in table.items() if self.owns(chain)}
                outside[name] = {chain: rules for chain, rules in table.items() if not self.owns(chain)}
            self._generation = before
        known = self._known or {}
        blocks = []
        for name in self.tables:
            want = wanted.tables.get(name, {})
            portions = list(table_edits(known[name], want))
            if fresh:
                jumps = self._jumps(outside[name], wanted.jumps.get(name, {}))
                # after the chains that the jumps lead to are there, before those that go are gone
                at = next((i for i, lines in enumerate(portions) if lines[0][:2] == "-X"), len(portions))
                portions.insert(at, jumps)
            blocks.append(transaction(name, portions, NFT_CHUNK if self.xtables.is_nft else 0))
        self.written = {
            name: float(block.count("\n")) for name, block in zip(self.tables, blocks, strict=True)
        }
        text = "".join(blocks)
        if text:
            self._restore(text)
        self._known = {name: dict(wanted.tables.get(name, {})) for name in self.tables}
        return text.count("\n")

    def _restore(self, text: str) -> None:
        """Restore; afterwards the generation is only taken as ours when nobody committed in between."""
        commits = text.count("\nCOMMIT")
        before = generation()
        try:
            self.xtables.restore(text)
        except XtablesError:
            self._known = None
            raise
        if before == self._generation and generation() <= before + commits:
            self._generation = generation()

    def _jumps(self, outside: Table, wanted: Mapping[str, Rules]) -> list[str]:
        lines: list[str] = []
        for chain, rules in outside.items():
            want = wanted.get(chain, ())
            stale = [rule for rule in rules if rule not in want and self.owns(_target(rule))]
            lines += jump_edits(chain, rules, want, stale)
        for chain in wanted.keys() - outside.keys():  # iptables-nft lists a built-in chain once it is used
            lines += jump_edits(chain, (), wanted[chain], ())
        return lines


def _target(rule: str) -> str:
    """The chain or target a rule jumps to, "" if none."""
    _, jump, rest = rule.rpartition("-j ")
    return rest.split(" ", 1)[0] if jump else ""
