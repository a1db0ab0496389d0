"""What is found wrong with an exchange: one fault a row, each of which must be seen. No root."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from testbed.model.oracle import Delivery, Fate, Flow, Outcome, Sender
from testbed.packets.capture import RST, Packet
from testbed.packets.observation import (
    Observation,
    faults,
    in_words,
    observe,
    only_port_changed,
    seen_in_words,
)
from testbed.packets.probe import Answer, Question, Result

VIP, POD, CALLER, BRIDGE = "10.96.0.20", "10.244.1.2", "10.244.1.3", "10.244.1.1"
QUESTION = Question(VIP, 80, "TCP", 10001, b"<t-1>")
FLOW = Flow(Sender(ip_address(CALLER), "node01"), ip_address(VIP), 80, "TCP")
DUE = Outcome(Fate.ANSWERED, (Delivery(ip_address(POD), 8080, ip_address(CALLER), port_kept=True),))
ANSWER = Answer(Result.ANSWERED, b"hello", CALLER)

ARRIVING = Packet("TCP", CALLER, 10001, POD, 8080, payload=b"<t-1>\n")
REPLY = Packet("TCP", VIP, 80, CALLER, 10001, payload=b"hello")
ERROR = Packet(
    "ICMP",
    BRIDGE,
    0,
    CALLER,
    0,
    icmp=(3, 3),
    quoted=Packet("TCP", CALLER, 10001, VIP, 80),
)


def judged(
    answer: Answer = ANSWER,
    at_sender: tuple[Packet, ...] = (REPLY,),
    at_backend: tuple[Packet, ...] = (ARRIVING,),
    due: Outcome = DUE,
    own_network: bool = True,
) -> list[str]:
    seen = observe(QUESTION, answer, at_sender, {"near": at_backend})
    return faults(due, seen, FLOW, QUESTION, own_network)


def test_a_right_exchange() -> None:
    assert judged() == []
    assert judged(at_backend=(ARRIVING, ARRIVING)) == []  # a retransmission is the same packet


@pytest.mark.parametrize(
    ("arriving", "words"),
    [
        (replace(ARRIVING, source=BRIDGE), "near saw 10.244.1.1"),
        (replace(ARRIVING, source_port=40000), "source port 10001 became 40000"),
        (replace(ARRIVING, to="10.244.2.2"), "it went to near at 10.244.2.2:8080"),
        (replace(ARRIVING, port=80), "it went to near at 10.244.1.2:80"),
        (replace(ARRIVING, payload=b"<t-2>"), "no backend got it"),
    ],
)
def test_a_wrong_delivery(arriving: Packet, words: str) -> None:
    assert judged(at_backend=(arriving,)) == [words]


def test_a_port_that_was_changed_is_told_from_other_faults() -> None:
    """The kernel may have drawn that very port for another flow that it masquerades."""
    for changed, alone in (
        ({"source_port": 40000}, True),
        ({"source_port": 40000, "source": BRIDGE}, False),
        ({"port": 80}, False),
        ({}, False),
    ):
        seen = observe(QUESTION, ANSWER, (REPLY,), {"near": (replace(ARRIVING, **changed),)})
        wrong = faults(DUE, seen, FLOW, QUESTION, True)
        assert only_port_changed(wrong, seen, QUESTION) is alone


def test_two_backends_at_once() -> None:
    assert judged(at_backend=(ARRIVING, replace(ARRIVING, to="10.244.2.2"))) == ["it arrived more than once"]


def test_a_reply_that_was_not_translated_back() -> None:
    stranger = replace(REPLY, source=POD, source_port=8080)
    assert judged(at_sender=(REPLY, stranger)) == [f"reply from {POD}:8080"]
    # a node sees packets before they are translated back
    assert judged(at_sender=(stranger,), own_network=False) == []


REFUSED = Outcome(Fate.PORT_UNREACHABLE)
NO = Answer(Result.REFUSED, b"", CALLER)


def test_refusals_by_their_form() -> None:
    assert judged(NO, (ERROR,), (), REFUSED) == []
    reset = replace(REPLY, flags=RST, payload=b"")
    assert judged(NO, (reset,), (), REFUSED) == ["ICMP port unreachable was due"]
    host_unreachable = replace(ERROR, icmp=(3, 1))
    assert judged(NO, (host_unreachable,), (), REFUSED) == ["ICMP port unreachable was due"]


def test_a_refusal_must_be_about_the_question() -> None:
    assert ERROR.quoted
    wrong = replace(ERROR, quoted=replace(ERROR.quoted, to=POD, port=8080))
    assert judged(NO, (wrong,), (), REFUSED) == [f"the ICMP error is about {POD}:8080/TCP"]


def test_a_refused_packet_reaches_nobody() -> None:
    assert judged(NO, (ERROR,), (ARRIVING,), REFUSED) == ["near got it"]
    assert judged(NO, (ERROR,), (ARRIVING,), replace(REFUSED, may_arrive=True)) == []


@pytest.mark.parametrize(
    ("result", "fate"),
    [(Result.SILENCE, Fate.SILENCE), (Result.CLOSED, Fate.CLOSED), (Result.UNREACHABLE, Fate.SILENCE)],
)
def test_no_answer(result: Result, fate: Fate) -> None:
    assert judged(Answer(result, b"", CALLER), (), ())[0] == "answered was due"
    assert judged(Answer(result, b"", CALLER), (), (), Outcome(fate)) == []


def test_words() -> None:
    assert in_words(DUE, {POD: "near"}) == f"near sees {CALLER} and the same port"
    assert in_words(REFUSED, {}) == "ICMP port unreachable"
    seen = observe(QUESTION, ANSWER, (REPLY,), {"near": (ARRIVING,)})
    assert seen_in_words(seen, QUESTION) == f"near saw {CALLER} and the same port"
    assert seen_in_words(Observation(Fate.SILENCE, CALLER), QUESTION) == "silence"
    refused = observe(QUESTION, NO, (ERROR,), {})
    assert seen_in_words(refused, QUESTION) == f"ICMP port unreachable from {BRIDGE}"
