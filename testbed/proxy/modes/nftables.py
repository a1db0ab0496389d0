"""nftables mode: a table of its own with verdict maps, applied by its difference in one transaction."""

from __future__ import annotations

import contextlib
import shutil

from testbed.kernel import nft
from testbed.kernel.nft import NftError, Table
from testbed.kernel.nft_table import KeptTable
from testbed.model.service import Snapshot
from testbed.proxy.modes.base import Memo, Mode
from testbed.proxy.modes.chains import remove_rules
from testbed.proxy.modes.nftables_rules import service_rules, table
from testbed.proxy.options import ProxyOptions

TABLES = {4: "ip kube-proxy", 6: "ip6 kube-proxy"}


class Nftables(Mode[Table]):
    """Renders only the Services that changed, and gives nft only the chains and elements that differ."""

    title = "nftables"

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)
        self._memo = Memo(lambda service: service_rules(service, options))
        self._kept = KeptTable(TABLES[options.family])
        self._alone = False

    def start(self) -> str:
        return nft.run(["--version"]).strip()

    def render(self, snapshot: Snapshot) -> Table:
        return table(self._memo.of(snapshot), snapshot, self.options.family)

    def sync(self, state: Table, *, repair: bool = False) -> int:
        """The first time, the iptables rules of another mode go once the table is in."""
        changes = self._kept.apply(state, repair=repair)
        if not self._alone and shutil.which("iptables"):
            changes += remove_rules(self.options.family)
        self._alone = True
        return changes

    @classmethod
    def cleanup(cls) -> None:
        with contextlib.suppress(NftError):  # without nft or nf_tables there is no table either
            for name in TABLES.values():
                if nft.exists(name):
                    nft.commit(nft.removal(name))
