"""iptables mode: kube-proxy's chains, applied by their difference in one iptables-restore."""

from __future__ import annotations

import contextlib

from testbed.kernel import sysctl
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Rules, Xtables
from testbed.model.service import Snapshot
from testbed.proxy.modes.base import Memo, Mode
from testbed.proxy.modes.chains import rule_set
from testbed.proxy.modes.iptables_rules import joined, jumps, service_rules, static_chains
from testbed.proxy.options import ProxyOptions


class Iptables(Mode[Wanted]):
    """Renders only the Services that changed, and gives iptables only the chains and rules that differ."""

    title = "iptables"

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)
        self._memo = Memo(lambda service: service_rules(service, options))

    def start(self) -> str:
        xtables = Xtables(self.options.family)
        self._rules = rule_set(xtables)
        if self.options.family == 6:  # ::1 is no source of a packet to elsewhere: no node ports there
            return xtables.version
        with contextlib.suppress(OSError):  # node ports on 127.0.0.1; read-only where sysctls are not ours
            sysctl.put("net.ipv4.conf.all.route_localnet", 1)
        return xtables.version

    def render(self, snapshot: Snapshot) -> Wanted:
        every = self._memo.of(snapshot)
        nat, filters, last = static_chains(snapshot, self.options.family)
        for rules in every:
            nat.update(rules.chains)
        nat.update(_frozen(joined(every, "nat"), {"KUBE-SERVICES": last}))
        filters.update(_frozen(joined(every, "filter"), {}))
        return Wanted({"nat": nat, "filter": filters}, jumps(self.options.family))

    def sync(self, state: Wanted, *, repair: bool = False) -> int:
        return self._rules.apply(state, repair=repair)


def _frozen(chains: dict[str, list[str]], last: dict[str, Rules]) -> dict[str, Rules]:
    return {chain: (*rules, *last.get(chain, ())) for chain, rules in chains.items()}
