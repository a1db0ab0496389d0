"""Where the matrix works: a network namespace of this machine, or a Pod of a cluster far away."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from testbed.errors import TestbedError
from testbed.kernel.calls import Pending
from testbed.kernel.namespaces import inside
from testbed.lab.distant import Distant
from testbed.packets.capture import Capture, Instruction, Sniffer
from testbed.packets.probe import Answer, Question, ask, ask_from

P = ParamSpec("P")
T = TypeVar("T")

OWN = "/proc/self/ns/net"


class Ground(Protocol):
    """A network namespace, wherever it is."""

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns, called inside. It, and all that it takes and gives, can be pickled."""
        ...

    def capture(self, program: list[Instruction], without: str = "") -> Capture:
        """Begin to capture, see `Sniffer`."""
        ...


@dataclass(frozen=True)
class Here:
    """A namespace of this machine."""

    netns: Path

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with inside(self.netns):
            return function(*args, **kwargs)

    def capture(self, program: list[Instruction], without: str = "") -> Capture:
        return Sniffer(self.netns, program, without)


@dataclass(frozen=True)
class There:
    """A Pod, by the Python that takes calls in it."""

    distant: Distant

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.distant.call(function, *args, **kwargs)

    def capture(self, program: list[Instruction], without: str = "") -> Capture:
        return _Distant(self.distant, program, without)


def answers(asked: Sequence[tuple[Ground, Question]]) -> list[Answer]:
    """Ask all at once, each from its ground. In the order of the questions."""
    far: dict[Distant, list[Question]] = {}
    for ground, question in asked:
        if isinstance(ground, There):
            far.setdefault(ground.distant, []).append(question)
    under_way: dict[Distant, Pending[list[Answer]]] = {
        distant: distant.start(ask, OWN, questions) for distant, questions in far.items()
    }
    near = iter(ask_from([(ground.netns, one) for ground, one in asked if isinstance(ground, Here)]))
    told: dict[Distant, Iterator[Answer]] = {one: iter(each.result()) for one, each in under_way.items()}
    return [next(told[ground.distant] if isinstance(ground, There) else near) for ground, _ in asked]


_CAPTURES: dict[int, Sniffer] = {}
_NUMBERS = itertools.count()


def _begin(program: list[Instruction], without: str) -> int:
    number = next(_NUMBERS)
    _CAPTURES[number] = Sniffer(OWN, program, without)
    return number


def _read(number: int) -> list[tuple[bytes, bool]]:
    return _CAPTURES[number].passed()


def _drain(number: int) -> None:
    _CAPTURES[number].drain()


def _end(number: int) -> None:
    _CAPTURES.pop(number).close()


class _Distant(Capture):
    """A Sniffer in a Pod."""

    def __init__(self, distant: Distant, program: list[Instruction], without: str) -> None:
        self._distant = distant
        self._number = distant.call(_begin, program, without)

    def passed(self) -> list[tuple[bytes, bool]]:
        return self._distant.call(_read, self._number)

    def drain(self) -> None:
        self._distant.call(_drain, self._number)

    def close(self) -> None:
        with suppress(TestbedError):  # whoever is gone captures no more
            self._distant.call(_end, self._number)
