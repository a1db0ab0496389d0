"""An nftables table of one owner, kept as wanted. Other tables are not looked at."""

from __future__ import annotations

import logging

from testbed.kernel import nft
from testbed.kernel.nft import NftError, Table
from testbed.kernel.xtables import generation

log = logging.getLogger(__name__)


class KeptTable:
    """Applies what is wanted by its difference to what the kernel is known to hold."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: Table | None = None
        self._generation = 0
        """The generation in which the kernel is sure to hold what is known; 0: it may have been changed."""

    def apply(self, wanted: Table, *, repair: bool = False) -> int:
        """Make the kernel hold `wanted`; returns the number of commands given to nft.

        With `repair`, what the kernel holds is read anew, unless nobody can have changed it. Where the
        difference cannot be applied, the table is made anew as a whole. Raises NftError.
        """
        now = generation()
        known, self._known = self._known, None
        sure = known is not None and 0 < now == self._generation
        if known is None or (repair and not sure):
            known, sure = nft.read(self.name), now > 0
        commands, transactions = self._change(known, wanted)
        after = now + transactions
        self._generation = after if sure and generation() == after else 0
        self._known = wanted
        return commands

    def _change(self, known: Table | None, wanted: Table) -> tuple[int, int]:
        """The numbers of commands and of transactions."""
        if known is not None and known.fits(wanted):
            steps = nft.edits(self.name, known, wanted)
            try:
                return sum(map(len, steps)), nft.commit(steps)
            except NftError as error:
                log.warning("Table %s is not as it was left, making it anew: %s", self.name, error)
        steps = nft.creation(self.name, wanted)
        return sum(map(len, steps)), nft.commit(steps)
