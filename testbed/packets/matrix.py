"""The matrix on a live scene: a sniffer in every namespace, one case after the other, a verdict for each."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import islice, product
from types import TracebackType

from testbed.model.cases import Case, To
from testbed.model.deviations import expect_in
from testbed.model.families import Address, family, of_version
from testbed.model.offers import (
    CLIENT,
    DEAF_PORT,
    FIRST,
    NODE_PORTS,
    OFFERS,
    PROTOCOLS,
    SCTP,
    SECOND,
    SERVERS,
    SERVICE_PORT,
    TARGET_PORT,
    external_address,
)
from testbed.model.oracle import Fate, Flow, Outcome, Sender, World
from testbed.model.rows import ERROR_RATE
from testbed.packets.capture import Capture, mark_filter, port_filter
from testbed.packets.exchange import Asked, Exchange, alone, spread
from testbed.packets.ground import Ground, answers
from testbed.packets.observation import faults, in_words, observe, only_port_changed
from testbed.packets.patience import until
from testbed.packets.probe import Question, questions
from testbed.packets.sorting import NOTHING, Leaks, Sorted, about, batched
from testbed.packets.verdict import FAILED, PASSED, Verdict

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

AT_ONCE = 150
"""Questions under way together. A socket's buffer holds more datagrams, and the kernel more packets."""

HURRY_SECONDS = 0.5
"""How long an answer may take of a proxy that has not settled."""


@dataclass(frozen=True)
class Place:
    """A Pod or machine of the scene, as it appears in cases: a sender in each family, the primary first."""

    ground: Ground
    senders: tuple[Sender, ...]

    @property
    def sender(self) -> Sender:
        return self.senders[0]

    def sender_of(self, version: int) -> Sender:
        """Raises LookupError when it has no address of the family."""
        for sender in self.senders:
            if sender.address.version == version:
                return sender
        raise LookupError(f"nobody of {family(version)} here")


Keep = Callable[[str, str, Mapping[str, Sequence[bytes]]], object]
"""Takes mode, case and packets by place."""


class Stage:
    """The scene with a sniffer in each namespace, as a context manager.

    `places`: the Pods and machines that the cases name. Their kernels must not hold back ICMP errors
    (net.ipv4.icmp_ratelimit): a refusal that was kept back looks like silence. `keep` is called for a case
    that failed.
    """

    def __init__(self, world: World, places: Mapping[str, Place]) -> None:
        self.world = world
        self.places = places
        self.names = {
            str(sender.address): name for name in SERVERS if name in places for sender in places[name].senders
        }
        self.questions = questions(secrets.token_hex(4))
        self._open = ExitStack()
        self.sniffers: dict[str, Capture] = {}
        self._leaks: dict[str, Capture] = {}
        self.keep: Keep | None = None

    def __enter__(self) -> Stage:
        ports = sorted({TARGET_PORT, DEAF_PORT, SERVICE_PORT, *NODE_PORTS.values()})
        for name, place in self.places.items():
            self.sniffers[name] = self._open.enter_context(place.ground.capture(port_filter(ports)))
            if place.sender.host:
                self._leaks[name] = self._open.enter_context(
                    place.ground.capture(mark_filter(MARK), without=BRIDGE)
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def flow(self, case: Case) -> Flow:
        """What the case's sender means, in addresses."""
        sender, to = self.places[case.actor].sender_of(case.version), self._address(case)
        return Flow(sender, to, case.port, case.protocol, case.via, case.size)

    def _address(self, case: Case) -> Address:
        if case.to in (To.POD, To.NODE_PORT):
            where = case.service if case.to is To.POD else case.via
            return self.places[where].sender_of(case.version).address
        service = next(s for s in self.world.services if s["metadata"]["name"] == case.service)
        if case.to is To.CLUSTER_IP:
            return of_version(map(ip_address, service["spec"]["clusterIPs"]), case.version)
        if case.to is To.LOAD_BALANCER:
            ingress = service["status"]["loadBalancer"]["ingress"]
            return of_version((ip_address(one["ip"]) for one in ingress), case.version)
        return external_address(case.service, case.via or FIRST, case.version)

    def asked(self, case: Case, expected: Outcome, seconds: float) -> Asked:
        """The case's question, from a port of its own. `seconds`: how long its answer may take."""
        flow = self.flow(case)
        port, token = next(self.questions)
        wait = SILENT_SECONDS if expected.fate in QUIET else seconds
        # An SCTP socket tells its peer of all addresses that it is bound to.
        source = str(flow.sender.address) if flow.protocol == SCTP else ""
        question = Question(str(flow.to), flow.port, flow.protocol, port, token, wait, source, case.size)
        return Asked(case.actor, flow, expected, question, case.count > 1)

    def answers(self, asked: Sequence[Asked]) -> list[Exchange]:
        """Ask all, `AT_ONCE` at a time: their ports and tokens tell them apart."""
        return [one for wave in batched(asked, AT_ONCE) for one in self._wave(wave)]

    def _wave(self, asked: Sequence[Asked]) -> Iterator[Exchange]:
        for sniffer in (*self.sniffers.values(), *self._leaks.values()):
            sniffer.drain()
        told = answers([(self.places[one.actor].ground, one.question) for one in asked])
        pods = SERVERS.keys() & self.places.keys()
        names = {CLIENT, *pods, *(one.actor for one in asked)} & self.places.keys()
        read = {name: self.sniffers[name].read_both() for name in names}
        captured = {name: Sorted(coming) for name, (coming, _) in read.items()}
        passed = {name: every for name, (_, every) in read.items()}
        gateway = captured.get(CLIENT, NOTHING)
        seen = []
        for one, answer in zip(asked, told, strict=True):
            port, token = one.question.source_port, one.question.token
            at_backends = {name: captured[name].with_token(token) for name in pods}
            at_sender = () if one.choice_only else captured[one.actor].with_port(port)
            at_gateway = () if one.choice_only else gateway.with_port(port)
            seen.append(observe(one.question, answer, at_sender, at_backends, at_gateway))
        used = [
            {q.question.source_port, *(a.source_port for a in s.arrivals)}
            for q, s in zip(asked, seen, strict=True)
        ]
        claims = Counter(port for own in used for port in own)
        leaks = Leaks({name: sniffer.read(outgoing=True) for name, sniffer in self._leaks.items()}, used)
        for one, observed, own in zip(asked, seen, used, strict=True):
            wrong = faults(one.expected, observed, one.flow, one.question, not one.flow.sender.host)
            wrong += leaks.of(own)
            port, token = one.question.source_port, one.question.token
            if wrong and self.keep:
                passed |= {n: s.read_both()[1] for n, s in self.sniffers.items() if n not in passed}
            kept = passed if wrong and self.keep else {}
            packets = {name: about(every, port, token) for name, every in kept.items()}
            yield Exchange(one.question, observed, wrong, claims[port] > 1, packets)

    def verdicts(
        self, mode: str, cases: Sequence[Case], *, seconds: float = ANSWER_SECONDS
    ) -> Iterator[Verdict]:
        """Run the cases together. `seconds`: how long an answer may take."""
        due = [expect_in(mode, self.world, self.flow(case)) for case in cases]
        asked = [
            self.asked(case, expected, seconds)
            for case, (expected, _) in zip(cases, due, strict=True)
            for _ in range(case.count)
        ]
        found = iter(self._once_more(asked, self.answers(asked)))
        for case, (expected, reason) in zip(cases, due, strict=True):
            exchanges = list(islice(found, case.count))
            yield self._judged(mode, case, expected, reason, exchanges)

    def _once_more(self, asked: Sequence[Asked], found: Sequence[Exchange]) -> list[Exchange]:
        """Probes that met a port which the kernel drew for another are sent once more, from other ports.

        Where the kernel masquerades it draws ports at random (--random-fully). A probe that comes from a port
        drawn before, towards the same backend, gets another: one in tens of thousands does. And packets of a
        flow that was given a probe's port look like the probe's. Who does wrong does so the second time, too.
        """
        moved = [n for n, one in enumerate(found) if one.wrong and _met_another(one)]
        again = []
        for number in moved:
            port, token = next(self.questions)
            question = replace(asked[number].question, source_port=port, token=token)
            again.append(replace(asked[number], question=question))
        result = list(found)
        for number, one in zip(moved, self.answers(again), strict=True):
            result[number] = one
        return result

    def verdict(self, mode: str, case: Case, seconds: float = ANSWER_SECONDS) -> Verdict:
        """Run one case."""
        return next(self.verdicts(mode, [case], seconds=seconds))

    def _judged(
        self, mode: str, case: Case, expected: Outcome, reason: str, exchanges: Sequence[Exchange]
    ) -> Verdict:
        if case.count == 1:
            due, (seen, good) = in_words(expected, self.names), alone(exchanges[0])
        else:
            names = sorted(self.names[str(address)] for address in expected.backends)
            due = f"{', '.join(names)} equally often (chi-square, p >= {ERROR_RATE:g})"
            seen, good = spread(names, exchanges)
        due += f" ({mode}: {reason})" if reason else ""
        if not good and self.keep:
            self.keep(mode, case.name, next((one.packets for one in exchanges if one.wrong), {}))
        return Verdict.of(mode, case, due, seen, PASSED if good else FAILED)

    def settle(self, mode: str, services: Set[str], seconds: float = SETTLE_SECONDS) -> list[str]:
        """Wait until every node does right by these Services; where one does not after `seconds`."""
        every = (case for version in self.world.spec.families for case in _settling(version))
        cases = [case for case in every if case.service in services]
        due = {case: expect_in(mode, self.world, self.flow(case))[0] for case in cases}
        waiting = [case for case in due if due[case].fate not in QUIET]  # that is so without rules, too

        def settled() -> bool:
            found = self.answers([self.asked(case, due[case], HURRY_SECONDS) for case in waiting])
            pairs = zip(waiting, found, strict=True)
            waiting[:] = [case for case, one in pairs if one.seen.fate is not due[case].fate]
            return not waiting

        until(settled, seconds)
        return [case.name for case in waiting]


def _met_another(one: Exchange) -> bool:
    """Whether all that is wrong may be another flow's doing."""
    return one.contested or only_port_changed(one.wrong, one.seen, one.question)


def _settling(version: int) -> Iterator[Case]:
    """What tells that rules are in. How a backend itself refuses, the capture on a node does not show."""
    heard = [(n, one) for n, one in OFFERS.items() if one.target != DEAF_PORT and version in one.versions]
    for node, (service, offer), protocol in product((FIRST, SECOND), heard, PROTOCOLS):
        rows = [Case(To.CLUSTER_IP, service, node, node, protocol, SERVICE_PORT)]
        if offer.node_port:
            rows.append(Case(To.NODE_PORT, service, "client", CLIENT, protocol, offer.node_port, node))
        if offer.outside:
            rows.append(Case(To.EXTERNAL_IP, service, "client", CLIENT, protocol, SERVICE_PORT, node))
        if offer.kind == "LoadBalancer":
            rows.append(Case(To.LOAD_BALANCER, service, node, node, protocol, SERVICE_PORT))
        yield from (replace(row, family=family(version)) for row in rows)
