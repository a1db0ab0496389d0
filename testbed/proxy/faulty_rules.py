"""Deliberate faults in what each mode renders: rules, verdict maps, virtual servers, sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from testbed.kernel.ipvs import VirtualServer
from testbed.kernel.nft import Table
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Rules
from testbed.model.families import VERSIONS
from testbed.proxy.modes.ipvs import IpvsState
from testbed.proxy.modes.ipvs_rules import set_name


@dataclass(frozen=True)
class RuleFault:
    """In the chains of `table` whose names begin with `chain`, what matches `pattern` becomes `put`.

    A rule of which nothing is left is none; a line break makes two of one.
    """

    table: str
    chain: str
    pattern: str
    put: str | Callable[[re.Match[str]], str] = ""

    def __call__(self, state: Wanted) -> Wanted:
        chains = state.tables[self.table]
        changed = {n: self._rules(r) if n.startswith(self.chain) else r for n, r in chains.items()}
        return Wanted({**state.tables, self.table: changed}, state.jumps)

    def _rules(self, rules: Rules) -> Rules:
        return _changed(rules, self.pattern, self.put)


def _changed(rules: Rules, pattern: str, put: str | Callable[[re.Match[str]], str]) -> Rules:
    lines = (line for rule in rules for line in re.sub(pattern, put, rule).split("\n"))
    return tuple(line for line in lines if line)


@dataclass(frozen=True)
class ChainFault:
    """The same in an nftables table."""

    chain: str
    pattern: str
    put: str = ""

    def __call__(self, state: Table) -> Table:
        changed = {
            name: _changed(rules, self.pattern, self.put) if name.startswith(self.chain) else rules
            for name, rules in state.chains.items()
        }
        return replace(state, chains=changed)


@dataclass(frozen=True)
class MapFault:
    """A set or map of an nftables table is empty."""

    name: str

    def __call__(self, state: Table) -> Table:
        return replace(state, sets={**state.sets, self.name: replace(state.sets[self.name], elements={})})


@dataclass(frozen=True)
class SetFault:
    """An ipset is empty, in either family."""

    name: str

    def __call__(self, state: IpvsState) -> IpvsState:
        names = [set_name(self.name, family) for family in VERSIONS]
        sets = {
            name: replace(held, entries=frozenset()) if name in names else held
            for name, held in state.sets.items()
        }
        return replace(state, sets=sets)


@dataclass(frozen=True)
class ServerFault:
    """Every virtual server becomes what `change` makes of it; None: it is left out."""

    change: Callable[[str, VirtualServer], VirtualServer | None]

    def __call__(self, state: IpvsState) -> IpvsState:
        changed = {front: self.change(front[0], server) for front, server in state.servers.items()}
        return replace(state, servers={front: server for front, server in changed.items() if server})


@dataclass(frozen=True)
class FilterFault:
    """A fault of rules beside IPVS."""

    fault: RuleFault

    def __call__(self, state: IpvsState) -> IpvsState:
        return replace(state, rules=self.fault(state.rules))


def _heavy_first(protocol: str, server: VirtualServer) -> VirtualServer:
    weights = {real: 5 if number == 0 else 1 for number, real in enumerate(server.servers)}
    return replace(server, scheduler="wrr", servers=weights)


def _none_first(protocol: str, server: VirtualServer) -> VirtualServer:
    if len(server.servers) < 2:
        return server
    return replace(server, servers={real: min(n, 1) for n, real in enumerate(server.servers)})


_OFF_CLUSTER = r"^! -s \S+ (.*-j KUBE-MARK-MASQ)$"

IPTABLES: Mapping[str, RuleFault] = {
    "strangers-not-masqueraded": RuleFault("nat", "KUBE-SVC-", _OFF_CLUSTER),
    "pods-masqueraded": RuleFault("nat", "KUBE-SVC-", _OFF_CLUSTER, r"\1"),
    "outside-not-masqueraded": RuleFault("nat", "KUBE-EXT-", r"^.*masquerade traffic.*$"),
    "no-hairpin": RuleFault("nat", "KUBE-SEP-", r"^-s .* -j KUBE-MARK-MASQ$"),
    "endpoints-always-masqueraded": RuleFault("nat", "KUBE-SEP-", r"^-s \S+ (.* -j KUBE-MARK-MASQ)$", r"\1"),
    "nothing-masqueraded": RuleFault("nat", "KUBE-POSTROUTING", r"^.*MASQUERADE.*$"),
    "mark-kept": RuleFault("nat", "KUBE-POSTROUTING", r"^-j MARK .*$"),
    "first-too-often": RuleFault(
        "nat", "KUBE-SVC-", r"--probability 0\.33\d+", "--probability 0.60000000009"
    ),
    "second-always": RuleFault("nat", "KUBE-SVC-", r"--probability 0\.50\d+", "--probability 1.00000000000"),
    "probability-left-out": RuleFault("nat", "KUBE-SVC-", r"-m statistic \S+ \S+ \S+ 0\.33\d+ "),
    "middle-endpoint-dropped": RuleFault("nat", "KUBE-SVC-", r"^.*--probability 0\.50.*$"),
    "udp-not-translated": RuleFault("nat", "KUBE-SEP-", r"^-p udp .*$"),
    "no-refusal-inside": RuleFault("filter", "KUBE-SERVICES", r"^.*-j REJECT.*$"),
    "no-refusal-outside": RuleFault("filter", "KUBE-EXTERNAL-SERVICES", r"^.*-j REJECT.*$"),
    "wrong-refusal": RuleFault(
        "filter",
        "KUBE-SERVICES",
        "icmp6?-port-unreachable",
        lambda found: "icmp6-addr-unreachable" if "6" in found[0] else "icmp-host-unreachable",
    ),
    "silent-refusal": RuleFault("filter", "KUBE-", r"-j REJECT --reject-with \S+", "-j DROP"),
    "no-drop-outside": RuleFault("filter", "KUBE-EXTERNAL-SERVICES", r"^.*-j DROP$"),
    "no-drop-inside": RuleFault("filter", "KUBE-SERVICES", r"^.*-j DROP$"),
    "invalid-let-through": RuleFault("filter", "KUBE-FORWARD", r"^.*--ctstate INVALID .*$"),
    "local-goes-everywhere": RuleFault("nat", "KUBE-EXT-", r"-j KUBE-SVL-", "-j KUBE-SVC-"),
    "local-masqueraded": RuleFault(
        "nat", "KUBE-EXT-", r"^-j KUBE-SVL-(\S+)$", "-j KUBE-MARK-MASQ\n-j KUBE-SVL-\\1"
    ),
    "no-short-cut-for-pods": RuleFault("nat", "KUBE-EXT-", r"^.*pod traffic.*$"),
    "no-short-cut-for-nodes": RuleFault("nat", "KUBE-EXT-", r"^.*route LOCAL traffic.*$"),
    "short-cut-not-masqueraded": RuleFault("nat", "KUBE-EXT-", r"^.*masquerade LOCAL traffic.*$"),
    "everybody-let-in": RuleFault("nat", "KUBE-FW-", r"^-s \S+ "),
    "nobody-let-in": RuleFault("nat", "KUBE-FW-", r"^-s .*$"),
    "bystanders-translated": RuleFault("nat", "KUBE-SERVICES", r"^-d \S+ (-p \S+ .*cluster IP)", r"\1"),
    "node-ports-of-pods": RuleFault("nat", "KUBE-SERVICES", r"-m addrtype --dst-type LOCAL "),
    "node-ports-unhooked": RuleFault("nat", "KUBE-SERVICES", r"^.*-j KUBE-NODEPORTS$"),
}


NFTABLES: Mapping[str, ChainFault | MapFault] = {
    "strangers-not-masqueraded": ChainFault("service-", r"^ip6? daddr .* saddr != \S+ jump mark-.*$"),
    "pods-masqueraded": ChainFault("service-", r"ip6? saddr != \S+ (jump mark-)", r"\1"),
    "outside-not-masqueraded": ChainFault("external-", r"^jump mark-for-masquerade$"),
    "no-hairpin": ChainFault("endpoint-", r"^ip6? saddr \S+ jump mark-for-masquerade$"),
    "endpoints-always-masqueraded": ChainFault("endpoint-", r"^ip6? saddr \S+ (jump mark-)", r"\1"),
    "nothing-masqueraded": ChainFault("masquerading", r"^masquerade.*$"),
    "mark-kept": ChainFault("masquerading", r"^meta mark set.*$"),
    "first-too-often": ChainFault(
        "service-",
        r"numgen random mod 3 vmap \{ 0 : (goto [^,]+), (1 : [^,]+, 2 : )",
        r"numgen random mod 4 vmap { 3 : \1, 0 : \1, \2",
    ),
    "udp-not-translated": ChainFault("endpoint-", r"^meta l4proto udp dnat .*$"),
    "no-refusal-inside": MapFault("no-endpoint-services"),
    "no-refusal-of-node-ports": MapFault("no-endpoint-nodeports"),
    "silent-refusal": ChainFault("reject-chain", r"^reject$", "drop"),
    "invalid-let-through": ChainFault("filter-forward", r"^ct state invalid drop$"),
    "everybody-let-in": MapFault("firewall-ips"),
    "nobody-let-in": ChainFault("firewall-", r"^ip6? saddr != .* drop$", "drop"),
    "local-goes-everywhere": ChainFault("external-", "goto local-", "goto service-"),
    "local-masqueraded": ChainFault("external-", r"^goto (local-\S+)$", "jump mark-for-masquerade\ngoto \\1"),
    "no-short-cut-for-pods": ChainFault("external-", r"^ip6? saddr \S+ goto service-.*$"),
    "no-short-cut-for-nodes": ChainFault("external-", r"^fib saddr type local goto .*$"),
    "short-cut-not-masqueraded": ChainFault("external-", r"^fib saddr type local jump .*$"),
    "node-ports-unhooked": ChainFault("services", r"^.*@service-nodeports$"),
    "node-ports-of-pods": ChainFault("services", r"ip6? daddr @nodeport-ips "),
    "node-not-hooked": ChainFault("nat-output", r"^jump services$"),
}

IPVS: Mapping[str, SetFault | ServerFault | FilterFault | Callable[[IpvsState], IpvsState]] = {
    "no-hairpin": SetFault("KUBE-LOOP-BACK"),
    "strangers-not-masqueraded": SetFault("KUBE-CLUSTER-IP"),
    "node-ports-not-masqueraded": SetFault("KUBE-NODE-PORT-TCP"),
    "udp-node-ports-not-masqueraded": SetFault("KUBE-NODE-PORT-UDP"),
    "local-masqueraded": SetFault("KUBE-NODE-PORT-LOCAL-TCP"),
    "external-ips-not-masqueraded": SetFault("KUBE-EXTERNAL-IP"),
    "balancers-not-masqueraded": SetFault("KUBE-LOAD-BALANCER"),
    "local-balancers-masqueraded": SetFault("KUBE-LOAD-BALANCER-LOCAL"),
    "everybody-let-in": SetFault("KUBE-LOAD-BALANCER-FW"),
    "nobody-let-in": SetFault("KUBE-LOAD-BALANCER-SOURCE-CIDR"),
    "no-addresses": lambda state: replace(state, ips=frozenset()),
    "udp-not-served": ServerFault(lambda protocol, server: None if protocol == "UDP" else server),
    "sctp-not-served": ServerFault(lambda protocol, server: None if protocol == "SCTP" else server),
    "by-source": ServerFault(lambda protocol, server: replace(server, scheduler="sh")),
    "first-too-often": ServerFault(_heavy_first),
    "first-never": ServerFault(_none_first),
    "nothing-masqueraded": FilterFault(RuleFault("nat", "KUBE-POSTROUTING", r"^.*MASQUERADE.*$")),
    "mark-kept": FilterFault(RuleFault("nat", "KUBE-POSTROUTING", r"^-j MARK .*$")),
    "pods-masqueraded": FilterFault(
        RuleFault("nat", "KUBE-SERVICES", r"^! -s \S+ (.*KUBE-(?:6-)?CLUSTER-IP .*-j KUBE-MARK-MASQ)$", r"\1")
    ),
    "nodes-let-in": FilterFault(RuleFault("filter", "KUBE-IPVS-OUT-FILTER", r"^.*-m ipvs .*$")),
    "no-drop": FilterFault(RuleFault("filter", "KUBE-SERVICES", r"^.*-j DROP$")),
}

USERSPACE: Mapping[str, RuleFault] = {
    "pods-not-redirected": RuleFault("nat", "KUBE-PORTALS-CONTAINER", r"^.*$"),
    "nodes-not-redirected": RuleFault("nat", "KUBE-PORTALS-HOST", r"^.*$"),
    "node-ports-not-redirected": RuleFault("nat", "KUBE-NODEPORT-CONTAINER", r"^.*$"),
    "own-node-ports-not-redirected": RuleFault("nat", "KUBE-NODEPORT-HOST", r"^.*$"),
    "udp-not-redirected": RuleFault("nat", "KUBE-PORTALS-CONTAINER", r"^.*-p udp .*$"),
    "bystanders-redirected": RuleFault("nat", "KUBE-PORTALS-CONTAINER", r"^-d \S+ "),
    "everybody-let-in": RuleFault("nat", "KUBE-PORTALS-CONTAINER", r"^-s \S+ "),
    "nodes-let-in": RuleFault("nat", "KUBE-PORTALS-HOST", r"^-s \S+ "),
    "nobody-let-in": RuleFault("nat", "KUBE-PORTALS-CONTAINER", r"^-s .*$"),
    "no-refusal-inside": RuleFault("filter", "KUBE-SERVICES", r"^.*-j REJECT.*$"),
    "no-refusal-outside": RuleFault("filter", "KUBE-EXTERNAL-SERVICES", r"^.*-j REJECT.*$"),
    "silent-refusal": RuleFault("filter", "KUBE-", r"-j REJECT --reject-with \S+", "-j DROP"),
    "no-drop-outside": RuleFault("filter", "KUBE-EXTERNAL-SERVICES", r"^.*-j DROP$"),
    "no-drop-inside": RuleFault("filter", "KUBE-SERVICES", r"^.*-j DROP$"),
}

RULES: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "iptables": IPTABLES,
    "nftables": NFTABLES,
    "ipvs": IPVS,
    "userspace": USERSPACE,
    "userspace-haproxy": USERSPACE,
}
"""By mode: the name of a fault, and what it makes of the mode's state (in userspace mode, of its rules)."""
