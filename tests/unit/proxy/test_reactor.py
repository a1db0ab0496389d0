"""The reactor tells a descriptor only of its own events."""

from __future__ import annotations

import os
import socket

from testbed.proxy.dataplane.reactor import IN, Reactor


def test_a_descriptor_given_out_again_hears_nothing_of_the_one_before() -> None:
    """Both pairs have news in one round; who is called first replaces the other by a silent socket."""
    reactor = Reactor()
    ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
    numbers = [one.fileno() for one in ours]
    silent, other_end = socket.socketpair()
    heard: list[str] = []

    def on_news(fd: int) -> None:
        heard.append("news")
        (old,) = set(numbers) - {fd}
        reactor.remove(old)
        os.dup2(silent.fileno(), old)
        reactor.add(old, IN, lambda _: heard.append("stale"))
        reactor.every_tick(lambda _: stop())

    def stop() -> None:
        reactor.running = False

    for number, end in zip(numbers, theirs, strict=True):
        reactor.add(number, IN, lambda _, fd=number: on_news(fd) if not heard else None)  # type: ignore[misc]
        end.send(b"!")
    reactor.run()
    assert heard == ["news"]
    for each in (*ours, *theirs, silent, other_end):
        each.close()
