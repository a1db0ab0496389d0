"""What must hold while the scene changes: affinity, endpoints that come and go, connections that stay."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import product

from testbed.model.cases import Case, To, live_name
from testbed.model.deviations import (
    LINGER_SECONDS,
    LIVE_DEVIATIONS,
    LIVE_DEVIATIONS_OF_OTHERS,
    expect_in,
)
from testbed.model.families import family
from testbed.model.offers import (
    BRIEF,
    BRIEF_SECONDS,
    CALLER,
    CLIENT,
    FAR,
    FIRST,
    HOMES,
    MOVING,
    NEAR,
    NEAR_LOCAL,
    NODE_PORTS,
    NONE,
    OFFERS,
    PROTOCOLS,
    SECOND,
    SERVICE_PORT,
    STICKY,
    VISITORS,
)
from testbed.model.oracle import Flow, Sender
from testbed.packets import lines, scene
from testbed.packets.exchange import Asked, Exchange
from testbed.packets.kept import Kept, in_words
from testbed.packets.matrix import HURRY_SECONDS, SETTLE_SECONDS, Stage
from testbed.packets.patience import patience, until
from testbed.packets.probe import Question
from testbed.packets.site import Site
from testbed.packets.stray import disturbed
from testbed.packets.verdict import FAILED, PASSED, Verdict

CHANGE_SECONDS = 10.0
"""How long a change may take to be in the rules."""

MANY = 20
"""Connections that must all go to one backend, or reach every one of three (but once in 1e3 tries)."""

STEPS = (("moved", FAR), ("emptied", NONE), ("refilled", NEAR))
"""What becomes of MOVING, which leads to NEAR at first, and to whom it then leads."""


def _rows(service: str, protocol: str, version: int) -> tuple[Case, ...]:
    name = family(version)
    return (
        Case(To.CLUSTER_IP, service, "pod", CALLER, protocol, SERVICE_PORT, family=name),
        Case(To.NODE_PORT, service, "client", CLIENT, protocol, NODE_PORTS[service], SECOND, family=name),
    )


class Live:
    """The agents of `site` run in `mode` with `command` and `environment`, and their rules are in.

    `begin` may be called long before `verdicts`: what it opens must outlast whatever comes between.
    """

    def __init__(
        self,
        site: Site,
        stage: Stage,
        mode: str,
        command: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.site = site
        self.stage = stage
        self.mode = mode
        self.command = command
        self.environment = environment
        self._stack = ExitStack()
        self.families = stage.world.spec.families
        self._kept: dict[int, list[Kept]] = {}
        self._leaving: dict[int, list[Kept]] = {}
        self._visited: dict[int, list[str]] = {}
        self._since = 0.0

    def close(self) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Open the connections that are to live through all, and be visited by clients to be forgotten."""
        for version in self.families:
            for service, connections in ((NEAR, self._kept), (MOVING, self._leaving)):
                kept = (Kept(self.stage, case) for case in _rows(service, "TCP", version))
                connections[version] = [self._stack.enter_context(one) for one in kept]
        self._visited = {version: self._visits(version) for version in self.families}
        self._since = time.monotonic()

    def verdicts(self) -> Generator[Verdict, None, None]:
        """Every live case; afterwards the scene is as before."""
        with self._stack:
            self._stack.callback(self._restore)
            if not self._kept:
                self.begin()
            yield from self._checked()
            yield from self._disturbed()
            yield from self._held()
            yield from self._moves()
            yield from self._off()
            yield from self._still("kept/syncs/tcp", self._kept)
            yield from self._forgotten()
            yield from self._restart()

    def _checked(self) -> Iterator[Verdict]:
        """What healthCheckNodePort tells a load balancer: which node has an endpoint."""
        for version in self.families:
            statuses = [health(self.stage, node, version) for node in (FIRST, SECOND)]
            told = " and ".join(map(str, statuses))
            yield self._verdict("health-check/tcp", version, told, "200 and 503")

    def _disturbed(self) -> Iterator[Verdict]:
        """Connections whose backend says something that connection tracking holds invalid."""
        for version in self.families:
            seen = disturbed(self.stage, NEAR, _rows(NEAR, "TCP", version))
            yield self._verdict("invalid/tcp", version, seen, "every one answered")

    def _still(self, name: str, connections: dict[int, list[Kept]]) -> Iterator[Verdict]:
        """Connections that were opened long ago."""
        for version, kept in connections.items():
            yield self._verdict(name, version, in_words(kept), "every one answered")

    def _restart(self) -> Iterator[Verdict]:
        """What the new agent alone can do must be done: then its first sync is over, too."""
        self.site.set_proxy(self.mode, command=self.command, environment=self.environment)
        self.stage.world = scene.lead(self.site.kubeconfig, self.site.spec, MOVING, FAR)
        for version in self.families:
            wrong = self._settled("TCP", version, {}, SETTLE_SECONDS)
            yield self._verdict("restarted/tcp", version, "; ".join(wrong) or "as due", "as due")
        yield from self._still("kept/restart/tcp", self._kept)

    def _forgotten(self) -> Iterator[Verdict]:
        memory = BRIEF_SECONDS + LINGER_SECONDS.get(self.mode, 0.0)
        time.sleep(max(0.0, self._since + memory + patience(1.0) - time.monotonic()))
        due = "some have another backend"
        for version, visited in self._visited.items():
            changed = sum(one != other for one, other in zip(visited, self._visits(version), strict=True))
            told = due if changed else "every one has the same backend"
            yield self._verdict("affinity/forgotten/tcp", version, told, due)

    def _verdict(self, name: str, version: int, seen: str, due: str) -> Verdict:
        due, reason = LIVE_DEVIATIONS.get((self.mode, name), (due, ""))
        if self.command and seen == LIVE_DEVIATIONS_OF_OTHERS.get(name, ("", ""))[0]:
            due, reason = LIVE_DEVIATIONS_OF_OTHERS[name]
        good = PASSED if seen == due else FAILED
        if good is FAILED and self.stage.keep:
            self.stage.keep(self.mode, name, {})
        due += f" ({self.mode}: {reason})" if reason else ""
        protocol = name.rpartition("/")[2].upper()
        return Verdict(self.mode, live_name(name, version), "any", protocol, family(version), due, seen, good)

    def _visits(self, version: int) -> list[str]:
        """The backends that visitors from many addresses get, one connection each.

        They come in any order: a proxy that gives each the next backend in turn gives others another time.
        """
        to, via = self.stage.places[FIRST].sender_of(version).address, FIRST
        asked = []
        visitors = random.sample(VISITORS[version], len(VISITORS[version]))
        for visitor in visitors:
            flow = Flow(Sender(visitor), to, NODE_PORTS[BRIEF], "TCP", via)
            due, _ = expect_in(self.mode, self.stage.world, flow)
            port, token = next(self.stage.questions)
            question = Question(str(to), flow.port, "TCP", port, token, source=str(visitor))
            asked.append(Asked(CLIENT, flow, due, question))
        got = dict(zip(visitors, map(_backend, self.stage.answers(asked)), strict=True))
        return [got[visitor] for visitor in VISITORS[version]]

    def _many(self, case: Case) -> set[str]:
        due, _ = expect_in(self.mode, self.stage.world, self.stage.flow(case))
        asked = [self.stage.asked(case, due, HURRY_SECONDS * 4) for _ in range(MANY)]
        return {_backend(one) for one in self.stage.answers(asked)}

    def _held(self) -> Iterator[Verdict]:
        for protocol, version in product(PROTOCOLS, self.families):
            counts = [len(self._many(case)) for case in _rows(STICKY, protocol, version)]
            seen = f"{' and '.join(map(str, counts))} backends"
            yield self._verdict(f"affinity/held/{protocol.lower()}", version, seen, "1 and 1 backends")

    def _off(self) -> Iterator[Verdict]:
        scene.set_affinity(self.site.kubeconfig, STICKY, "None")
        for version in self.families:
            seen: set[str] = set()

            def spread(case: Case = _rows(STICKY, "TCP", version)[0], seen: set[str] = seen) -> bool:
                seen.update(self._many(case))
                return seen >= HOMES.keys()

            until(spread, CHANGE_SECONDS)
            told, due = f"{len(seen)} backends", f"{len(HOMES)} backends"
            yield self._verdict("affinity/off/tcp", version, told, due)

    def _moves(self) -> Iterator[Verdict]:
        """UDP keeps its source ports: their old connections must be forgotten."""
        ports = {
            case: next(self.stage.questions)[0]
            for version in self.families
            for case in _rows(MOVING, "UDP", version)
        }
        for version in self.families:
            self._settled("UDP", version, ports)
        for name, backend in STEPS:
            before = self.stage.world
            after = scene.lead(self.site.kubeconfig, self.site.spec, MOVING, backend)
            for protocol, version in product(PROTOCOLS, self.families):
                case = f"{name}/{protocol.lower()}"
                self.stage.world = after
                seen = "; ".join(self._settled(protocol, version, ports)) or "as due"
                if seen != "as due" and self.command and case in LIVE_DEVIATIONS_OF_OTHERS:
                    self.stage.world = before
                    seen = seen if self._settled(protocol, version, ports) else "as before"
                yield self._verdict(case, version, seen, "as due")
            self.stage.world = after
            if name == STEPS[0][0]:  # whoever has a connection keeps it, though its endpoint is none any more
                yield from self._still("kept/removal/tcp", self._leaving)

    def _settled(
        self, protocol: str, version: int, ports: dict[Case, int], seconds: float = CHANGE_SECONDS
    ) -> list[str]:
        """What is wrong with MOVING after `seconds`, the time that a change may take."""
        wrong: list[str] = []

        def right() -> bool:
            asked = [self._asked(case, ports) for case in _rows(MOVING, protocol, version)]
            wrong[:] = [word for one in self.stage.answers(asked) for word in one.wrong]
            return not wrong

        until(right, seconds)
        return wrong

    def _asked(self, case: Case, ports: dict[Case, int]) -> Asked:
        due, _ = expect_in(self.mode, self.stage.world, self.stage.flow(case))
        one = self.stage.asked(case, due, HURRY_SECONDS)
        if case not in ports:
            return one
        # A reply that is under way when its connection is forgotten makes an entry of its own, and what is
        # sent from the same port again then gets another.
        any_port = tuple(replace(delivery, port_kept=False) for delivery in due.deliveries)
        question = replace(one.question, source_port=ports[case])
        return replace(one, question=question, expected=replace(due, deliveries=any_port))

    def _restore(self) -> None:
        scene.set_affinity(self.site.kubeconfig, STICKY, "ClientIP")
        self.stage.world = scene.lead(self.site.kubeconfig, self.site.spec, MOVING, NEAR)


def health(stage: Stage, node: str, version: int) -> int:
    """The HTTP status that the client gets at the health check port of NEAR_LOCAL; 0: nobody listens."""
    address = stage.places[node].sender_of(version).address
    port = OFFERS[NEAR_LOCAL].spec["healthCheckNodePort"]
    return stage.places[CLIENT].ground.call(lines.status, str(address), port)


def _backend(one: Exchange) -> str:
    return one.seen.arrivals[0].backend if one.seen.arrivals else str(one.seen.fate)
