"""What captured packets show of one exchange, and what is wrong with it by the oracle's word. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.model.oracle import Delivery, Fate, Flow, Outcome
from testbed.packets.capture import LOST, PORT_UNREACHABLE, RST, TOO_BIG, Packet
from testbed.packets.probe import Answer, Question, Result


@dataclass(frozen=True, order=True)
class Arrival:
    """The question, as it came into a backend's namespace."""

    backend: str
    to: str
    port: int
    source: str
    source_port: int


@dataclass(frozen=True)
class Observation:
    """One exchange. `sender`: the address that the sender's socket had.

    `replies`: from where packets came back to the sender's own namespace, as (address, port).
    `refuser`: where a refusal came from. `wrong_quote`: what an ICMP error was about, if not the question.
    `told`: the sender was told that its packets are too large. `length`: bytes of the answer.
    """

    fate: Fate
    sender: str
    arrivals: tuple[Arrival, ...] = ()
    replies: frozenset[tuple[str, int]] = frozenset()
    refuser: str = ""
    wrong_quote: str = ""
    told: bool = False
    length: int = 0


def observe(
    question: Question,
    answer: Answer,
    at_sender: Sequence[Packet],
    at_backends: Mapping[str, Sequence[Packet]],
    at_gateway: Sequence[Packet] = (),
) -> Observation:
    """Put the socket's word and the packets that came in together.

    `at_gateway`: what came to the host that all goes to that the cluster has no use for.
    """
    arrivals = {
        Arrival(name, packet.to, packet.port, packet.source, packet.source_port)
        for name, packets in at_backends.items()
        for packet in packets
        if question.token in packet.payload and packet.port != question.source_port
    }
    back = [packet for packet in at_sender if packet.port == question.source_port]
    errors = [packet for packet in at_sender if _is_error_about(packet, question.source_port)]
    fate, refuser = _fate(answer, back, errors)
    if fate is Fate.SILENCE and any(_is_question(packet, question) for packet in at_gateway):
        fate = Fate.SENT_ON
    return Observation(
        fate,
        answer.address,
        tuple(sorted(arrivals)),
        frozenset((packet.source, packet.source_port) for packet in back),
        refuser,
        _wrong_quote(question, errors),
        any(packet.icmp == TOO_BIG[packet.protocol] for packet in errors),
        len(answer.data),
    )


def _is_error_about(packet: Packet, source_port: int) -> bool:
    """Destination unreachable, packet too big; a router's redirect, say, is none."""
    lost = packet.icmp[0] in LOST.get(packet.protocol, ())
    return lost and packet.quoted is not None and packet.quoted.source_port == source_port


def _is_question(packet: Packet, question: Question) -> bool:
    sent = (question.protocol, question.to, question.port, question.source_port)
    return (packet.protocol, packet.to, packet.port, packet.source_port) == sent


def _fate(answer: Answer, back: Sequence[Packet], errors: Sequence[Packet]) -> tuple[Fate, str]:
    if answer.result is Result.ANSWERED:
        return Fate.ANSWERED, ""
    if answer.result is Result.CLOSED:
        return Fate.CLOSED, ""
    if answer.result is Result.UNREACHABLE:
        return Fate.SILENCE, f"the sender's own kernel: {answer.data.decode()}"
    for packet in errors:
        if packet.icmp == PORT_UNREACHABLE[packet.protocol]:
            return Fate.PORT_UNREACHABLE, packet.source
    for packet in back:
        if packet.protocol == "TCP" and packet.flags & RST:
            return Fate.RESET, packet.source
    return Fate.SILENCE, ""


def _wrong_quote(question: Question, errors: Sequence[Packet]) -> str:
    for packet in errors:
        about = packet.quoted
        assert about is not None
        if (about.protocol, about.to, about.port) != (question.protocol, question.to, question.port):
            return f"{about.to}:{about.port}/{about.protocol}"
    return ""


def faults(
    expected: Outcome, seen: Observation, flow: Flow, question: Question, own_network: bool
) -> list[str]:
    """What is wrong, in words; nothing if it is as it must be.

    `own_network`: nothing translates in the sender's namespace, so that what comes back there must come from
    where the question went. On a node the packets are captured before they are translated back, and only its
    socket can tell.
    """
    found = []
    if seen.fate is not expected.fate:
        found.append(f"{expected.fate} was due")
    if seen.wrong_quote:
        found.append(f"the ICMP error is about {seen.wrong_quote}")
    if expected.deliveries:
        found += _delivery_faults(expected.deliveries, seen, question)
    elif seen.arrivals and not expected.may_arrive:
        found.append(f"{seen.arrivals[0].backend} got it")
    if expected.told and not seen.told:
        found.append("nobody told the sender that its packets are too large")
    if seen.fate is Fate.ANSWERED and question.protocol == "UDP" and seen.length < question.size:
        found.append(f"{seen.length} of {question.size} bytes came back")
    strangers = {reply for reply in seen.replies if reply != (str(flow.to), flow.port)}
    if own_network and strangers:
        found.append("reply from " + ", ".join(f"{address}:{port}" for address, port in sorted(strangers)))
    return found


def _delivery_faults(deliveries: Sequence[Delivery], seen: Observation, question: Question) -> list[str]:
    if not seen.arrivals:
        return ["no backend got it"]
    if len(seen.arrivals) > 1:
        return ["it arrived more than once"]
    (arrival,) = seen.arrivals
    due = [d for d in deliveries if (str(d.backend), d.port) == (arrival.to, arrival.port)]
    if not due:
        return [f"it went to {arrival.backend} at {arrival.to}:{arrival.port}"]
    if str(due[0].source) != arrival.source:
        return [f"{arrival.backend} saw {arrival.source}"]
    if due[0].port_kept and arrival.source_port != question.source_port:
        return [_port_changed(question, arrival.source_port)]
    return []


def _port_changed(question: Question, port: int) -> str:
    return f"source port {question.source_port} became {port}"


def only_port_changed(wrong: Sequence[str], seen: Observation, question: Question) -> bool:
    """Whether nothing else is wrong but the source port."""
    return bool(wrong) and wrong == [_port_changed(question, one.source_port) for one in seen.arrivals]


def in_words(outcome: Outcome, names: Mapping[str, str]) -> str:
    """What must happen: `near sees 10.244.1.1`. `names` of the Pods by address."""
    if not outcome.deliveries:
        return str(outcome.fate)
    after = "" if outcome.fate is Fate.ANSWERED else f"{outcome.fate}, when "
    return after + " or ".join(
        sorted(
            f"{names.get(str(d.backend), str(d.backend))} sees {d.source}{' and the same port' * d.port_kept}"
            for d in outcome.deliveries
        )
    )


def seen_in_words(seen: Observation, question: Question) -> str:
    """What happened, in the form of `in_words`."""
    if seen.fate is not Fate.ANSWERED or not seen.arrivals:
        return f"{seen.fate}{' from ' * bool(seen.refuser)}{seen.refuser}"
    return " and ".join(
        f"{a.backend} saw {a.source}{' and the same port' * (a.source_port == question.source_port)}"
        for a in seen.arrivals
    )
