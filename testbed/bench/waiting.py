"""When does a target answer for the first time? Tries follow each other closely, and none is cut short."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterable

from testbed.bench.prober import REQUEST, RESET_ON_CLOSE, Address

EVERY = 0.03
"""Seconds from one try to the next, unless told otherwise: what the answer is good to."""

PATIENCE = 3.0
"""Seconds that one try lives: longer than the answer takes on a loaded machine."""


def first_refusal(target: Address, deadline: float) -> float | None:
    """time.perf_counter() when `target` answers no more; None when it still did after `deadline` s."""
    end = time.perf_counter() + deadline
    while time.perf_counter() < end:
        try:
            with socket.create_connection(target, timeout=0.5) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                attempt.sendall(REQUEST)
                if not attempt.recv(64):
                    return time.perf_counter()
        except OSError:
            return time.perf_counter()
        time.sleep(EVERY)
    return None


def silent(targets: Iterable[Address], deadline: float) -> list[Address]:
    """Wait for an answer from each target; those that gave none for `deadline` s."""
    return [target for target in targets if first_answer(target, deadline) is None]


def first_answer(target: Address, deadline: float, every: float = EVERY) -> float | None:
    """time.perf_counter() of the first HTTP 200 from `target`; None when there was none for `deadline` s."""
    end = time.perf_counter() + deadline
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        tries: dict[socket.socket, float] = {}
        stack.callback(_give_up, tries, tries, selector)
        following = 0.0
        while (now := time.perf_counter()) < end:
            if now >= following:
                following = now + every
                tries[_try(target, selector)] = now
            failed = [attempt for attempt, since in tries.items() if now - since > PATIENCE]
            for key, events in selector.select(max(0.0, following - time.perf_counter())):
                attempt = next(attempt for attempt in tries if attempt.fileno() == key.fd)
                try:
                    if _answered(attempt, events, selector):
                        return time.perf_counter()
                except OSError:
                    failed.append(attempt)
            _give_up(failed, tries, selector)
    return None


def _answered(attempt: socket.socket, events: int, selector: selectors.BaseSelector) -> bool:
    """Go on with a try: send the request, or look at the answer. Raises OSError when it has failed."""
    if events & selectors.EVENT_WRITE:
        attempt.send(REQUEST)
        selector.modify(attempt, selectors.EVENT_READ)
        return False
    if not attempt.recv(64).startswith(b"HTTP/1.1 200"):
        raise ConnectionError("no answer")
    return True


def _try(target: Address, selector: selectors.BaseSelector) -> socket.socket:
    attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    attempt.setblocking(False)
    # Refused at once or not, the selector tells: a socket in error is writable, and send(2) then raises it.
    attempt.connect_ex(target)
    selector.register(attempt, selectors.EVENT_WRITE)
    return attempt


def _give_up(
    attempts: Iterable[socket.socket], tries: dict[socket.socket, float], selector: selectors.BaseSelector
) -> None:
    for attempt in set(attempts):
        selector.unregister(attempt)
        del tries[attempt]
        attempt.close()
