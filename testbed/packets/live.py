"""What must hold while the scene changes: affinity, endpoints that come and go, connections that stay."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_address

from testbed.lab.cluster import Cluster
from testbed.model.cases import Case, To
from testbed.model.deviations import LINGER_SECONDS, LIVE_DEVIATIONS, expect_in
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
    NODE_PORTS,
    NONE,
    PROTOCOLS,
    SECOND,
    SERVICE_PORT,
    STICKY,
    VISITORS,
)
from testbed.model.oracle import Flow, Sender
from testbed.packets import scene
from testbed.packets.matrix import HURRY_SECONDS, Asked, Exchange, Stage
from testbed.packets.patience import patience, until
from testbed.packets.probe import Question
from testbed.packets.sockets import inside
from testbed.packets.verdict import FAILED, PASSED, Verdict

CHANGE_SECONDS = 10.0
"""How long a change may take to be in the rules."""

MANY = 20
"""Connections that must all go to one backend, or reach every one of three (but once in 1e3 tries)."""

STEPS = (("moved", FAR), ("emptied", NONE), ("refilled", NEAR))
"""What becomes of MOVING, which leads to NEAR at first, and to whom it then leads."""


def _rows(service: str, protocol: str) -> tuple[Case, ...]:
    return (
        Case(To.CLUSTER_IP, service, "pod", CALLER, protocol, SERVICE_PORT),
        Case(To.NODE_PORT, service, "client", CLIENT, protocol, NODE_PORTS[service], SECOND),
    )


class Live:
    """The agents of `cluster` run in `mode` with `command`, and their rules are in.

    `begin` may be called long before `verdicts`: what it opens must outlast whatever comes between.
    """

    def __init__(self, cluster: Cluster, stage: Stage, mode: str, command: str = "") -> None:
        self.cluster = cluster
        self.stage = stage
        self.mode = mode
        self.command = command
        self._stack = ExitStack()
        self._kept: list[Kept] = []
        self._visited: list[str] = []
        self._since = 0.0

    def close(self) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Open the connections that are to live through all, and be visited by clients to be forgotten."""
        self._kept = [self._stack.enter_context(Kept(self.stage, case)) for case in _rows(NEAR, "TCP")]
        self._visited, self._since = self._visits(), time.monotonic()

    def verdicts(self) -> Generator[Verdict, None, None]:
        """Every live case; afterwards the scene is as before."""
        with self._stack:
            self._stack.callback(self._restore)
            if not self._kept:
                self.begin()
            yield from self._held()
            yield from self._moves()
            yield self._off()
            yield self._verdict("kept/syncs/tcp", _words(self._kept), "every one answered")
            yield from self._restart()
            yield self._forgotten()

    def _restart(self) -> Iterator[Verdict]:
        """What the new agent alone can do must be done: then its first sync is over, too."""
        self.cluster.set_proxy(self.mode, command=self.command)
        self.stage.world = scene.lead(self.cluster.kubeconfig, self.cluster.spec, MOVING, FAR)
        wrong = self._settled("TCP", {})
        yield self._verdict("restarted/tcp", "; ".join(wrong) or "as due", "as due")
        yield self._verdict("kept/restart/tcp", _words(self._kept), "every one answered")

    def _forgotten(self) -> Verdict:
        memory = BRIEF_SECONDS + LINGER_SECONDS.get(self.mode, 0.0)
        time.sleep(max(0.0, self._since + memory + patience(1.0) - time.monotonic()))
        changed = sum(one != other for one, other in zip(self._visited, self._visits(), strict=True))
        told = "some have another backend" if changed else "every one has the same backend"
        return self._verdict("affinity/forgotten/tcp", told, "some have another backend")

    def _verdict(self, name: str, seen: str, due: str) -> Verdict:
        due, reason = LIVE_DEVIATIONS.get((self.mode, name), (due, ""))
        good = PASSED if seen == due else FAILED
        due += f" ({self.mode}: {reason})" if reason else ""
        protocol = name.rpartition("/")[2].upper()
        return Verdict(self.mode, f"live/{name}", "any", protocol, "IPv4", due, seen, good)

    def _visits(self) -> list[str]:
        """The backends that visitors from many addresses get, one connection each."""
        to, via = self.stage.places[FIRST].sender.address, FIRST
        asked = []
        for visitor in VISITORS:
            flow = Flow(Sender(ip_address(visitor)), to, NODE_PORTS[BRIEF], "TCP", via)
            due, _ = expect_in(self.mode, self.stage.world, flow)
            port, token = next(self.stage.questions)
            question = Question(str(to), flow.port, "TCP", port, token, source=visitor)
            asked.append(Asked(CLIENT, flow, due, question))
        return [_backend(one) for one in self.stage.answers(asked)]

    def _many(self, case: Case) -> set[str]:
        due, _ = expect_in(self.mode, self.stage.world, self.stage.flow(case))
        asked = [self.stage.asked(case, due, HURRY_SECONDS * 4) for _ in range(MANY)]
        return {_backend(one) for one in self.stage.answers(asked)}

    def _held(self) -> Iterator[Verdict]:
        for protocol in PROTOCOLS:
            counts = [len(self._many(case)) for case in _rows(STICKY, protocol)]
            seen = f"{' and '.join(map(str, counts))} backends"
            yield self._verdict(f"affinity/held/{protocol.lower()}", seen, "1 and 1 backends")

    def _off(self) -> Verdict:
        scene.set_affinity(self.cluster.kubeconfig, STICKY, "None")
        seen: set[str] = set()

        def spread() -> bool:
            seen.update(self._many(_rows(STICKY, "TCP")[0]))
            return seen >= HOMES.keys()

        until(spread, CHANGE_SECONDS)
        return self._verdict("affinity/off/tcp", f"{len(seen)} backends", f"{len(HOMES)} backends")

    def _moves(self) -> Iterator[Verdict]:
        """UDP keeps its source ports: their old connections must be forgotten."""
        ports = {case: next(self.stage.questions)[0] for case in _rows(MOVING, "UDP")}
        self._settled("UDP", ports)
        for name, backend in STEPS:
            self.stage.world = scene.lead(self.cluster.kubeconfig, self.cluster.spec, MOVING, backend)
            for protocol in PROTOCOLS:
                wrong = self._settled(protocol, ports)
                seen = "; ".join(wrong) or "as due"
                yield self._verdict(f"{name}/{protocol.lower()}", seen, "as due")

    def _settled(self, protocol: str, ports: dict[Case, int]) -> list[str]:
        """What is wrong with MOVING after the time that a change may take."""
        wrong: list[str] = []

        def right() -> bool:
            asked = [self._asked(case, ports) for case in _rows(MOVING, protocol)]
            wrong[:] = [word for one in self.stage.answers(asked) for word in one.wrong]
            return not wrong

        until(right, CHANGE_SECONDS)
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
        scene.set_affinity(self.cluster.kubeconfig, STICKY, "ClientIP")
        self.stage.world = scene.lead(self.cluster.kubeconfig, self.cluster.spec, MOVING, NEAR)


def _backend(one: Exchange) -> str:
    return one.seen.arrivals[0].backend if one.seen.arrivals else str(one.seen.fate)


class Kept:
    """A TCP connection to an echo server that stays open."""

    def __init__(self, stage: Stage, case: Case) -> None:
        flow = stage.flow(case)
        self.name = case.name
        with inside(stage.places[case.actor].netns):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(patience(4.0))
        with suppress(OSError):  # then `speak` says so
            self.socket.connect((str(flow.to), flow.port))

    def speak(self) -> str:
        """Say a line: what comes back, in a word."""
        try:
            self.socket.sendall(b"still there?\n")
            line = self.socket.recv(65535)
            return "answered" if line and json.loads(line) else "closed"
        except TimeoutError:
            return "silence"
        except (OSError, ValueError):
            return "closed"

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.socket.close()


def _words(kept: Sequence[Kept]) -> str:
    """`every one answered`, or how each fared."""
    fates = [one.speak() for one in kept]
    return f"every one {fates[0]}" if len(set(fates)) == 1 else ", ".join(fates)
