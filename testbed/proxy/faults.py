"""Deliberate faults of the agent, to see that the correctness matrix catches each of them (mutation testing).

The environment variable TESTBED_FAULT names the fault that an agent is to have, for each IP family its own;
nobody else sets it.
A fault is in what a mode is asked to do, and then any mode can have it, or in what a mode has rendered
(`testbed.proxy.faulty_rules`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from testbed.errors import UsageError
from testbed.model.service import Refusal, Route, ServicePort, Snapshot
from testbed.proxy.conntrack import Reconciled, Reconciler
from testbed.proxy.faulty_rules import RULES
from testbed.proxy.modes.base import Mode
from testbed.proxy.modes.userspace import Userspace

VARIABLE = "TESTBED_FAULT"
"""By family: `4:no-hairpin,6:mark-kept`. The proxier of a family that is not there has none."""

Change = Callable[[ServicePort], ServicePort]


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


def names(mode: str) -> tuple[str, ...]:
    """The faults that an agent in `mode` can have."""
    return (*ASKED, FROZEN, UDP_KEPT, *RULES.get(mode, ()))


def chosen(name: str, mode: Mode[Any]) -> Mode[Any]:
    """`mode` called `name`, with the fault that the environment names for its family, if it names one.

    Raises UsageError.
    """
    family = mode.options.family
    fault = given(os.environ.get(VARIABLE, "")).get(family, "")
    if not fault:
        return mode
    if fault not in names(name):
        raise UsageError(f"{VARIABLE}={fault} is unknown; known are {', '.join(names(name))}")
    if fault == UDP_KEPT:
        _keep_connections(family)
    return Faulty(name, mode, fault)


def given(text: str) -> dict[int, str]:
    """Faults by family, from the words of the environment."""
    pairs = (word.partition(":") for word in text.split(",") if word)
    return {int(family): fault for family, _, fault in pairs}


def told(faults: Mapping[int, str]) -> str:
    """What `given` reads."""
    return ",".join(f"{family}:{fault}" for family, fault in faults.items())


def _keep_connections(family: int) -> None:
    """Stale UDP connections of the family are not removed in this process."""
    right = Reconciler.after_sync

    def after_sync(self: Reconciler, snapshot: Snapshot, *, repair: bool = False) -> Reconciled | None:
        return None if self.family == family else right(self, snapshot, repair=repair)

    Reconciler.after_sync = after_sync  # type: ignore[method-assign]


class Faulty(Mode[Any]):
    """A mode with a fault."""

    def __init__(self, name: str, mode: Mode[Any], fault: str) -> None:
        super().__init__(mode.options)
        self.title = f"{mode.title} (fault injected: {fault})"
        self.mode = mode
        self.fault = fault
        self._change = RULES.get(name, {}).get(fault)
        self._first: Snapshot | None = None

    def render(self, snapshot: Snapshot) -> Any:
        if self._change:
            state = self.mode.render(snapshot)
            return state if isinstance(self.mode, Userspace) else self._change(state)
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
        about = self.mode.start()
        if self._change and isinstance(self.mode, Userspace):  # its rules are made when ports are known
            right, change = self.mode._rules.apply, self._change
            self.mode._rules.apply = lambda wanted, **how: right(change(wanted), **how)  # type: ignore
        return about

    def sync(self, state: Any, *, repair: bool = False) -> int:
        return self.mode.sync(state, repair=repair)

    def healthy(self) -> bool:
        return self.mode.healthy()

    def stop(self) -> None:
        self.mode.stop()
