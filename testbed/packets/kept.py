"""TCP connections that stay open, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from testbed.errors import TestbedError
from testbed.model.cases import Case
from testbed.packets import lines
from testbed.packets.matrix import Stage


class Kept:
    """A TCP connection to an echo server that stays open. `own`: its address and port."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self.case, self.flow = case, (flow := stage.flow(case))
        self._ground = stage.places[case.actor].ground
        self._number, self.own = self._ground.call(lines.connect, str(flow.to), flow.port)

    def speak(self) -> str:
        """Say a line: what comes back, in a word."""
        return self._ground.call(lines.speak, self._number)

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(TestbedError):
            self._ground.call(lines.hang_up, self._number)


def in_words(kept: Sequence[Kept]) -> str:
    """`every one answered`, or how each fared."""
    fates = [one.speak() for one in kept]
    return f"every one {fates[0]}" if len(set(fates)) == 1 else ", ".join(fates)
