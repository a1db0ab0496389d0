"""A question of the matrix, what was seen of it, and what that is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from testbed.model.oracle import Flow, Outcome
from testbed.model.rows import ERROR_RATE
from testbed.packets.distribution import evenness
from testbed.packets.observation import Observation, seen_in_words
from testbed.packets.probe import Question


@dataclass(frozen=True)
class Exchange:
    """A question, what was seen of it, and what is wrong with that, in words.

    `contested`: another flow of the time had its source port: what was seen may be that one's.
    `packets`: if something is wrong, what was captured of it, by place.
    """

    question: Question
    seen: Observation
    wrong: list[str]
    contested: bool = False
    packets: Mapping[str, list[bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A question of `actor`'s, and what must become of it.

    `choice_only`: of interest is only which backend got it: replies are not read, as reading takes time.
    """

    actor: str
    flow: Flow
    expected: Outcome
    question: Question
    choice_only: bool = False


def alone(one: Exchange) -> tuple[str, bool]:
    """What was seen, in words, and whether it was right."""
    seen = seen_in_words(one.seen, one.question)
    return "; ".join([seen, *(wrong for wrong in one.wrong if wrong not in seen)]), not one.wrong


def spread(names: Sequence[str], exchanges: Sequence[Exchange]) -> tuple[str, bool]:
    """How often each of `names` was chosen, and whether chance explains it."""
    for number, one in enumerate(exchanges, 1):
        if one.wrong:
            return f"number {number} of {len(exchanges)}: {'; '.join(one.wrong)}", False
    counts = Counter(dict.fromkeys(names, 0)) + Counter(one.seen.arrivals[0].backend for one in exchanges)
    chance = evenness([counts[name] for name in names])
    return ", ".join(f"{name} {counts[name]}" for name in names) + f"; p = {chance:.2g}", chance >= ERROR_RATE
