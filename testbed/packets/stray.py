"""Segments that connection tracking holds invalid, sent by a backend on its open connections.

Such a segment is not translated back: if a node let it pass, it would reach the client as one of a connection
that it has not, and what the client says to that would end the true one (kubernetes #74839).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from testbed.model.cases import Case
from testbed.packets import lines
from testbed.packets.capture import ACK, RST
from testbed.packets.kept import Kept, in_words
from testbed.packets.matrix import SILENT_SECONDS, Stage
from testbed.packets.patience import patience
from testbed.packets.sorting import Sorted, read

BEYOND = 1 << 28
"""Bytes: more than any window (RFC 7323)."""


def disturbed(stage: Stage, backend: str, cases: Sequence[Case]) -> str:
    """How connections fare whose `backend` sends a segment from beyond the window; who else was heard."""
    with ExitStack() as stack:
        kept = [stack.enter_context(Kept(stage, case)) for case in cases]
        for one in kept:
            stage.sniffers[backend].drain()
            if one.speak() != "answered":
                return "no answer before"
            packet = beyond(_last_said(stage, backend))
            stage.places[backend].ground.call(lines.send, packet, read(packet).to)
        time.sleep(patience(SILENT_SECONDS))
        heard = [stranger for one in kept for stranger in _strangers(stage, one)]
        return "; ".join([in_words(kept), *heard])


def _last_said(stage: Stage, backend: str) -> bytes:
    """The last segment that it sent."""
    sent = stage.sniffers[backend].read(outgoing=True)
    return [data for data in sent if read(data).flags & (ACK | RST) == ACK][-1]


def _strangers(stage: Stage, one: Kept) -> list[str]:
    """Who else sent something to the port of the connection. The other IP family has the same ports again."""
    own, port = one.own
    coming = Sorted(stage.sniffers[one.case.actor].read()).with_port(port)
    known = (str(one.flow.to), one.flow.port)
    others = {(each.source, each.source_port) for each in coming if (each.to, each.port) == (own, port)}
    others.discard(known)
    return [f"{one.case.source} heard {address}:{number}" for address, number in sorted(others)]


def beyond(data: bytes) -> bytes:
    """A segment without data, as far beyond the last one, `data`, that no window holds it."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    last = IP(data) if data[0] >> 4 == 4 else IPv6(data)
    said = last[TCP]
    number = (said.seq + len(said.payload) + BEYOND) % (1 << 32)
    segment = TCP(
        sport=said.sport,
        dport=said.dport,
        seq=number,
        ack=said.ack,
        flags="A",
        window=said.window,
        options=said.options,
    )
    return bytes(type(last)(src=last.src, dst=last.dst) / segment)
