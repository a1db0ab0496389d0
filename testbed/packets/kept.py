"""TCP connections that stay open, and how they fare."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress

from testbed.kernel.namespaces import inside
from testbed.model.cases import Case
from testbed.packets.matrix import Stage
from testbed.packets.patience import patience


class Kept:
    """A TCP connection to an echo server that stays open."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self.case, self.flow = case, (flow := stage.flow(case))
        with inside(stage.places[case.actor].netns):
            kind = socket.AF_INET if flow.to.version == 4 else socket.AF_INET6
            self.socket = socket.socket(kind, socket.SOCK_STREAM)
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


def in_words(kept: Sequence[Kept]) -> str:
    """`every one answered`, or how each fared."""
    fates = [one.speak() for one in kept]
    return f"every one {fates[0]}" if len(set(fates)) == 1 else ", ".join(fates)
