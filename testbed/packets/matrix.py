"""The matrix on a live scene: a sniffer in every namespace, one case after the other, a verdict for each."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

from testbed.model.cases import (
    ALL,
    CLIENT,
    ERROR_RATE,
    FIRST,
    HOMES,
    NODE_PORTS,
    NONE,
    PROTOCOLS,
    SECOND,
    SERVICE_PORT,
    TARGET_PORT,
    Case,
    To,
)
from testbed.model.deviations import expect_in
from testbed.model.oracle import Fate, Flow, Outcome, Sender, World
from testbed.packets.capture import Sniffer, dissect
from testbed.packets.distribution import evenness
from testbed.packets.observation import Observation, faults, in_words, observe, seen_in_words
from testbed.packets.patience import until
from testbed.packets.probe import Question, ask, questions

ANSWER_SECONDS = 4.0
"""How long an answer may take. TCP sends its SYN again after one second, and after two more."""

SILENT_SECONDS = 0.3
"""How long nothing must come where silence is due."""

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


class Stage:
    """The scene with a sniffer in each namespace, as a context manager.

    `places`: the Pods and machines that the cases name. Their kernels must not hold back ICMP errors
    (net.ipv4.icmp_ratelimit): a refusal that was kept back looks like silence.
    """

    def __init__(self, world: World, places: Mapping[str, Place]) -> None:
        self.world = world
        self.places = places
        self.names = {str(places[name].sender.address): name for name in HOMES}
        self._questions = questions(secrets.token_hex(4))
        self._open = ExitStack()
        self._sniffers: dict[str, Sniffer] = {}

    def __enter__(self) -> Stage:
        ports = {TARGET_PORT, SERVICE_PORT, *NODE_PORTS.values()}
        for name, place in self.places.items():
            self._sniffers[name] = self._open.enter_context(Sniffer(place.netns, ports))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def flow(self, case: Case) -> Flow:
        """What the case's sender means, in addresses."""
        if case.to is To.CLUSTER_IP:
            service = next(s for s in self.world.services if s["metadata"]["name"] == case.service)
            to = ip_address(service["spec"]["clusterIP"])
        else:
            to = self.places[case.service if case.to is To.POD else case.via].sender.address
        return Flow(self.places[case.actor].sender, to, case.port, case.protocol, case.via)

    def exchange(self, case: Case, expected: Outcome, seconds: float, count: int = 1) -> list[Exchange]:
        """Ask `count` times at once: what was seen, and what is wrong with it."""
        flow = self.flow(case)
        wait = SILENT_SECONDS if expected.fate is Fate.SILENCE else seconds
        asked = [
            Question(str(flow.to), flow.port, flow.protocol, port, token, wait)
            for port, token in itertools.islice(self._questions, count)
        ]
        for sniffer in self._sniffers.values():
            sniffer.drain()
        answers = ask(self.places[case.actor].netns, asked)
        captured = {name: self._sniffers[name].read() for name in {case.actor, *HOMES}}
        # Of many at once only their choice is of interest, and reading packets is what takes time.
        at_sender = [dissect(raw) for raw in captured[case.actor]] if count == 1 else []
        found = []
        for question, answer in zip(asked, answers, strict=True):
            at_backends = {n: [dissect(raw) for raw in captured[n] if question.token in raw] for n in HOMES}
            seen = observe(question, answer, at_sender, at_backends)
            wrong = faults(expected, seen, flow, question, not flow.sender.host)
            found.append(Exchange(question, seen, wrong))
        return found

    def verdict(self, mode: str, case: Case, *, hurry: bool = False) -> Verdict:
        """Run one case. `hurry`: it is likely to fail, so give it less time."""
        seconds = HURRY_SECONDS if hurry else ANSWER_SECONDS
        expected, reason = expect_in(mode, self.world, self.flow(case))
        due = in_words(expected, self.names)
        if case.count > 1:
            due = f"{', '.join(HOMES)} equally often (chi-square, p >= {ERROR_RATE:g})"
            seen_words, good = self._spread(case, expected, seconds)
        else:
            (one,) = self.exchange(case, expected, seconds)
            seen_words = seen_in_words(one.seen, one.question)
            seen_words = "; ".join([seen_words, *(wrong for wrong in one.wrong if wrong not in seen_words)])
            good = not one.wrong
        due += f" ({mode}: {reason})" if reason else ""
        return Verdict.of(mode, case, due, seen_words, PASSED if good else FAILED)

    def _spread(self, case: Case, expected: Outcome, seconds: float) -> tuple[str, bool]:
        counts = Counter(dict.fromkeys(HOMES, 0))
        for done in range(0, case.count, AT_ONCE):
            for one in self.exchange(case, expected, seconds, min(AT_ONCE, case.count - done)):
                if one.wrong:
                    return f"after {counts.total()}: {'; '.join(one.wrong)}", False
                counts[one.seen.arrivals[0].backend] += 1
        chance = evenness(list(counts.values()))
        return ", ".join(f"{n} {c}" for n, c in counts.items()) + f"; p = {chance:.2g}", chance >= ERROR_RATE

    def settle(self, mode: str) -> list[str]:
        """Wait until every node does right by every Service; where one does not after SETTLE_SECONDS."""
        waiting = list(_settling())

        def settled() -> bool:
            waiting[:] = [case for case in waiting if not self._answers(mode, case)]
            return not waiting

        until(settled, SETTLE_SECONDS)
        return [case.name for case in waiting]

    def _answers(self, mode: str, case: Case) -> bool:
        expected, _ = expect_in(mode, self.world, self.flow(case))
        if expected.fate is Fate.SILENCE:
            return True  # that is so before there are any rules, too
        return self.exchange(case, expected, HURRY_SECONDS)[0].seen.fate is expected.fate


def _settling() -> Iterator[Case]:
    for node in (FIRST, SECOND):
        for service in (*HOMES, ALL, NONE):
            for protocol in PROTOCOLS:
                yield Case(To.CLUSTER_IP, service, node, node, protocol, SERVICE_PORT)
                yield Case(To.NODE_PORT, service, "client", CLIENT, protocol, NODE_PORTS[service], node)
