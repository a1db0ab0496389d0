"""Deliberate faults of the agent, to see that the correctness matrix catches each of them (mutation testing).

The environment variable TESTBED_FAULT names the one fault that an agent is to have; nobody else sets it.
A fault is in what a mode is asked to do, and then any mode can have it, or in the rules that iptables mode
has rendered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from testbed.errors import UsageError
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Rules
from testbed.model.service import Refusal, Route, ServicePort, Snapshot
from testbed.proxy.conntrack import Reconciler
from testbed.proxy.modes.base import Mode

VARIABLE = "TESTBED_FAULT"

Change = Callable[[ServicePort], ServicePort]


@dataclass(frozen=True)
class RuleFault:
    """In the chains of `table` whose names begin with `chain`, what matches `pattern` becomes `put`.

    A rule of which nothing is left is none; a line break makes two of one.
    """

    table: str
    chain: str
    pattern: str
    put: str = ""

    def apply(self, state: Wanted) -> Wanted:
        chains = state.tables[self.table]
        changed = {n: self._rules(r) if n.startswith(self.chain) else r for n, r in chains.items()}
        return Wanted({**state.tables, self.table: changed}, state.jumps)

    def _rules(self, rules: Rules) -> Rules:
        lines = (line for rule in rules for line in re.sub(self.pattern, self.put, rule).split("\n"))
        return tuple(line for line in lines if line)


def _each(route: Callable[[Route], Route]) -> Change:
    return lambda service: replace(service, cluster=route(service.cluster), local=route(service.local))


def _without_last(route: Route) -> Route:
    return replace(route, endpoints=route.endpoints[:-1]) if len(route.endpoints) > 1 else route


def _shifted(route: Route) -> Route:
    return replace(route, endpoints=tuple(replace(one, port=80) for one in route.endpoints))


def _with(**fields: Any) -> Change:
    return lambda service: replace(service, **fields)


def _swapped(service: ServicePort) -> ServicePort:
    return replace(service, cluster=service.local, local=service.cluster)


ASKED: Mapping[str, Change] = {
    "internal-policy-ignored": _with(internal_local=False),
    "external-policy-ignored": _with(external_local=False),
    "internal-policy-always-local": _with(internal_local=True),
    "external-policy-always-local": _with(external_local=True),
    "local-and-cluster-swapped": _swapped,
    "local-refused-not-dropped": lambda service: replace(
        service, local=replace(service.local, refusal=Refusal.REJECT)
    ),
    "nobody-dropped-not-refused": lambda service: replace(
        service, cluster=replace(service.cluster, refusal=Refusal.DROP)
    ),
    "an-endpoint-forgotten": _each(_without_last),
    "wrong-target-port": _each(_shifted),
    "no-node-port": _with(node_port=0),
    "no-external-ips": _with(external_ips=()),
    "no-load-balancer": _with(load_balancer_ips=()),
    "no-affinity": _with(affinity_seconds=0),
    "affinity-for-ever": lambda service: replace(
        service, affinity_seconds=86400 if service.affinity_seconds else 0
    ),
    "source-ranges-ignored": _with(source_ranges=()),
}
"""Faults in what a mode is asked to do, Service port by Service port."""

FROZEN, UDP_KEPT = "first-state-for-ever", "stale-udp-connections-kept"
"""Faults in time: later changes are not rendered; conntrack is not cleaned up."""

_OFF_CLUSTER = r"^! -s \S+ (.*-j KUBE-MARK-MASQ)$"

RULES: Mapping[str, RuleFault] = {
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
    "wrong-refusal": RuleFault("filter", "KUBE-SERVICES", "icmp-port-unreachable", "icmp-host-unreachable"),
    "silent-refusal": RuleFault("filter", "KUBE-", r"-j REJECT --reject-with \S+", "-j DROP"),
    "no-drop-outside": RuleFault("filter", "KUBE-EXTERNAL-SERVICES", r"^.*-j DROP$"),
    "no-drop-inside": RuleFault("filter", "KUBE-SERVICES", r"^.*-j DROP$"),
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
"""Faults in the rules of iptables mode."""


def names(mode: str) -> tuple[str, ...]:
    """The faults that an agent in `mode` can have."""
    return (*ASKED, FROZEN, UDP_KEPT, *(RULES if mode == "iptables" else ()))


def chosen(mode: Mode[Any]) -> Mode[Any]:
    """`mode`, with the fault that the environment names, if it names one. Raises UsageError."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return mode
    if name not in names("iptables"):
        raise UsageError(f"{VARIABLE}={name} is unknown; known are {', '.join(names('iptables'))}")
    if name == UDP_KEPT:
        Reconciler.after_sync = _kept  # type: ignore[method-assign]
    return Faulty(mode, name)


def _kept(self: Reconciler, snapshot: Snapshot, *, repair: bool = False) -> None:
    """In place of removing stale UDP connections."""


class Faulty(Mode[Any]):
    """A mode with a fault."""

    def __init__(self, mode: Mode[Any], fault: str) -> None:
        super().__init__(mode.options)
        self.title = f"{mode.title} (fault injected: {fault})"
        self.mode = mode
        self.fault = fault
        self._first: Snapshot | None = None

    def render(self, snapshot: Snapshot) -> Any:
        if self.fault in RULES:
            return RULES[self.fault].apply(self.mode.render(snapshot))
        if self.fault == FROZEN:
            self._first = self._first or snapshot
            return self.mode.render(self._first)
        if self.fault == UDP_KEPT:
            return self.mode.render(snapshot)
        change = ASKED[self.fault]
        return self.mode.render(
            replace(snapshot, services={key: change(one) for key, one in snapshot.services.items()})
        )

    def start(self) -> str:
        return self.mode.start()

    def sync(self, state: Any, *, repair: bool = False) -> int:
        return self.mode.sync(state, repair=repair)

    def healthy(self) -> bool:
        return self.mode.healthy()

    def stop(self) -> None:
        self.mode.stop()
