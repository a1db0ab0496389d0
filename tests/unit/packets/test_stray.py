"""A segment that no window holds. No root."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from testbed.packets.stray import BEYOND, beyond


@pytest.mark.parametrize(
    ("layer", "source", "to"), [(IP, "10.0.0.1", "10.0.0.2"), (IPv6, "fd00::1", "fd00::2")]
)
def test_it_is_of_the_connection_and_far_beyond_it(layer: type, source: str, to: str) -> None:
    said = TCP(sport=8080, dport=5, seq=2**32 - 10, ack=7, flags="PA") / b"0123456789abc"
    found = layer(beyond(bytes(layer(src=source, dst=to) / said)))
    assert (found.src, found.dst) == (source, to)
    segment = found[TCP]
    assert (segment.sport, segment.dport, segment.ack, segment.flags) == (8080, 5, 7, "A")
    assert segment.seq == BEYOND + 3, "numbers begin again after the last"
    assert not bytes(segment.payload)
    right = segment.chksum
    del segment.chksum
    assert layer(bytes(found))[TCP].chksum == right
