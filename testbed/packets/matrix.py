"""The matrix on a live scene: a sniffer in every namespace, one case after the other, a verdict for each."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from pathlib import Path
from types import TracebackType

from testbed.model.cases import ERROR_RATE, Case, To
from testbed.model.deviations import expect_in
from testbed.model.offers import (
    CLIENT,
    FIRST,
    NODE_PORTS,
    OFFERS,
    PROTOCOLS,
    SECOND,
    SERVERS,
    SERVICE_PORT,
    TARGET_PORT,
    external_address,
)
from testbed.model.oracle import Address, Fate, Flow, Outcome, Sender, World
from testbed.packets.capture import Sniffer, dissect, mark_filter, port_filter
from testbed.packets.distribution import evenness
from testbed.packets.observation import Observation, faults, in_words, observe, seen_in_words
from testbed.packets.patience import until
from testbed.packets.probe import Question, ask_from, questions

MARK = 0x4000
"""The bit of the packet mark that asks for masquerading (--iptables-masquerade-bit 14); it must not leave."""

BRIDGE = "cni0"
"""A node's Pod bridge. What leaves through it leaves by a port of it, too; with br_netfilter, a packet may be
seen on the bridge itself before it is masqueraded."""

ANSWER_SECONDS = 4.0
"""How long an answer may take. TCP sends its SYN again after one second, and after two more."""

SILENT_SECONDS = 0.3
"""How long nothing must come where silence is due."""

QUIET = (Fate.SILENCE, Fate.SENT_ON)

SETTLE_SECONDS = 30.0
"""How long a proxy may take to put its rules in."""

AT_ONCE = 40
"""Questions under way together in a test of distribution. A socket's buffer holds more."""

HURRY_SECONDS = 0.5
"""How long an answer may take of a proxy that has not settled."""

PASSED, FAILED, NOT_RUN = "passed", "failed", "not_run"


@dataclass(frozen=True)
class Verdict:
    """A row of `verify -o json`. `verdict`: passed, failed or not_run."""

    mode: str
    case: str
    source: str
    protocol: str
    family: str
    expected: str
    seen: str
    verdict: str

    @classmethod
    def of(cls, mode: str, case: Case, expected: str, seen: str, verdict: str) -> Verdict:
        return cls(mode, case.name, case.source, case.protocol, case.family, expected, seen, verdict)


@dataclass(frozen=True)
class Place:
    """A Pod or machine of the scene, as it appears in cases."""

    netns: Path
    sender: Sender


@dataclass(frozen=True)
class Exchange:
    """A question, what was seen of it, and what is wrong with that, in words."""

    question: Question
    seen: Observation
    wrong: list[str]


@dataclass(frozen=True)
class Asked:
    """A question of `actor`'s, and what must become of it."""

    actor: str
    flow: Flow
    expected: Outcome
    question: Question


class Stage:
    """The scene with a sniffer in each namespace, as a context manager.

    `places`: the Pods and machines that the cases name. Their kernels must not hold back ICMP errors
    (net.ipv4.icmp_ratelimit): a refusal that was kept back looks like silence.
    """

    def __init__(self, world: World, places: Mapping[str, Place]) -> None:
        self.world = world
        self.places = places
        self.names = {str(places[name].sender.address): name for name in SERVERS if name in places}
        self.questions = questions(secrets.token_hex(4))
        self._open = ExitStack()
        self._sniffers: dict[str, Sniffer] = {}
        self._leaks: dict[str, Sniffer] = {}

    def __enter__(self) -> Stage:
        ports = sorted({TARGET_PORT, SERVICE_PORT, *NODE_PORTS.values()})
        for name, place in self.places.items():
            self._sniffers[name] = self._open.enter_context(Sniffer(place.netns, port_filter(ports)))
            if place.sender.host:
                self._leaks[name] = self._open.enter_context(
                    Sniffer(place.netns, mark_filter(MARK), without=BRIDGE)
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def flow(self, case: Case) -> Flow:
        """What the case's sender means, in addresses."""
        return Flow(self.places[case.actor].sender, self._address(case), case.port, case.protocol, case.via)

    def _address(self, case: Case) -> Address:
        if case.to in (To.POD, To.NODE_PORT):
            return self.places[case.service if case.to is To.POD else case.via].sender.address
        service = next(s for s in self.world.services if s["metadata"]["name"] == case.service)
        if case.to is To.CLUSTER_IP:
            return ip_address(service["spec"]["clusterIP"])
        if case.to is To.LOAD_BALANCER:
            return ip_address(service["status"]["loadBalancer"]["ingress"][0]["ip"])
        return ip_address(external_address(case.service, case.via or FIRST))

    def exchange(self, case: Case, expected: Outcome, seconds: float, count: int = 1) -> list[Exchange]:
        """Ask `count` times at once: what was seen, and what is wrong with it."""
        return self.exchanges([(case, expected)] * count, seconds, choice_only=count > 1)

    def exchanges(
        self, wanted: Sequence[tuple[Case, Outcome]], seconds: float, *, choice_only: bool = False
    ) -> list[Exchange]:
        """Ask all at once. `choice_only`: of interest is only to which backend it went: replies are not read,
        since reading packets is what takes time.
        """
        asked = [self.asked(case, expected, seconds) for case, expected in wanted]
        return self.answers(asked, choice_only=choice_only)

    def asked(self, case: Case, expected: Outcome, seconds: float) -> Asked:
        """The case's question, from a port of its own."""
        flow = self.flow(case)
        port, token = next(self.questions)
        wait = SILENT_SECONDS if expected.fate in QUIET else seconds
        question = Question(str(flow.to), flow.port, flow.protocol, port, token, wait)
        return Asked(case.actor, flow, expected, question)

    def answers(self, asked: Sequence[Asked], *, choice_only: bool = False) -> list[Exchange]:
        for sniffer in (*self._sniffers.values(), *self._leaks.values()):
            sniffer.drain()
        answers = ask_from([(self.places[one.actor].netns, one.question) for one in asked])
        pods = SERVERS.keys() & self.places.keys()
        names = {CLIENT, *pods, *(one.actor for one in asked)} & self.places.keys()
        captured = {name: self._sniffers[name].read() for name in names}
        leaks = [
            f"a packet left {name} with the masquerade mark" for name in self._leaks if self._leaked(name)
        ]
        found = []
        at_senders = {} if choice_only else {name: [dissect(raw) for raw in captured[name]] for name in names}
        for one, answer in zip(asked, answers, strict=True):
            token = one.question.token
            at_backends = {n: [dissect(raw) for raw in captured[n] if token in raw] for n in pods}
            at_sender, at_gateway = at_senders.get(one.actor, ()), at_senders.get(CLIENT, ())
            seen = observe(one.question, answer, at_sender, at_backends, at_gateway)
            wrong = faults(one.expected, seen, one.flow, one.question, not one.flow.sender.host)
            found.append(Exchange(one.question, seen, wrong + leaks))
        return found

    def _leaked(self, name: str) -> bool:
        return bool(self._leaks[name].read(outgoing=True))

    def verdicts(
        self, mode: str, cases: Sequence[Case], *, seconds: float = ANSWER_SECONDS
    ) -> Iterator[Verdict]:
        """Run the cases; those that must meet silence all at once, since each of them waits it out.

        `seconds`: how long an answer may take.
        """
        silent = []
        for case in cases:
            expected, reason = expect_in(mode, self.world, self.flow(case))
            if expected.fate in QUIET:
                silent.append((case, expected, reason))
            else:
                yield self.verdict(mode, case, seconds)
        found = self.exchanges([(case, expected) for case, expected, _ in silent], SILENT_SECONDS)
        for (case, expected, reason), one in zip(silent, found, strict=True):
            yield self._judged(mode, case, expected, reason, one)

    def verdict(self, mode: str, case: Case, seconds: float = ANSWER_SECONDS) -> Verdict:
        """Run one case."""
        expected, reason = expect_in(mode, self.world, self.flow(case))
        if case.count == 1:
            return self._judged(mode, case, expected, reason, *self.exchange(case, expected, seconds))
        names = sorted(self.names[str(address)] for address in expected.backends)
        due = f"{', '.join(names)} equally often (chi-square, p >= {ERROR_RATE:g})"
        due += f" ({mode}: {reason})" if reason else ""
        seen_words, good = self._spread(case, expected, names, seconds)
        return Verdict.of(mode, case, due, seen_words, PASSED if good else FAILED)

    def _judged(self, mode: str, case: Case, expected: Outcome, reason: str, one: Exchange) -> Verdict:
        due = in_words(expected, self.names) + (f" ({mode}: {reason})" if reason else "")
        seen = seen_in_words(one.seen, one.question)
        seen = "; ".join([seen, *(wrong for wrong in one.wrong if wrong not in seen)])
        return Verdict.of(mode, case, due, seen, FAILED if one.wrong else PASSED)

    def _spread(
        self, case: Case, expected: Outcome, names: Sequence[str], seconds: float
    ) -> tuple[str, bool]:
        counts = Counter(dict.fromkeys(names, 0))
        for done in range(0, case.count, AT_ONCE):
            for one in self.exchange(case, expected, seconds, min(AT_ONCE, case.count - done)):
                if one.wrong:
                    return f"after {counts.total()}: {'; '.join(one.wrong)}", False
                counts[one.seen.arrivals[0].backend] += 1
        chance = evenness(list(counts.values()))
        return ", ".join(f"{n} {c}" for n, c in counts.items()) + f"; p = {chance:.2g}", chance >= ERROR_RATE

    def settle(self, mode: str, seconds: float = SETTLE_SECONDS) -> list[str]:
        """Wait until every node does right by every Service; where one does not after `seconds`."""
        waiting = list(_settling())

        def settled() -> bool:
            waiting[:] = [case for case in waiting if not self._answers(mode, case)]
            return not waiting

        until(settled, seconds)
        return [case.name for case in waiting]

    def _answers(self, mode: str, case: Case) -> bool:
        expected, _ = expect_in(mode, self.world, self.flow(case))
        if expected.fate in QUIET:
            return True  # that is so before there are any rules, too
        return self.exchange(case, expected, HURRY_SECONDS)[0].seen.fate is expected.fate


def _settling() -> Iterator[Case]:
    for node, (service, offer), protocol in product((FIRST, SECOND), OFFERS.items(), PROTOCOLS):
        yield Case(To.CLUSTER_IP, service, node, node, protocol, SERVICE_PORT)
        if offer.node_port:
            yield Case(To.NODE_PORT, service, "client", CLIENT, protocol, offer.node_port, node)
        if offer.outside:
            yield Case(To.EXTERNAL_IP, service, "client", CLIENT, protocol, SERVICE_PORT, node)
        if offer.kind == "LoadBalancer":
            yield Case(To.LOAD_BALANCER, service, node, node, protocol, SERVICE_PORT)
