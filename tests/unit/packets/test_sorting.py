"""Packets found by port and token among many, without scapy; and whose a leaked mark is. No root."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from testbed.packets.sorting import Leaks, Sorted, gist, ports

HERE, THERE = "10.0.0.1", "10.0.0.2"
ASKED = IP(src=HERE, dst=THERE) / UDP(sport=11000, dport=80) / b"<ab12-000001>\n"
ASKED6 = IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=11000, dport=80) / b"<ab12-000001>\n"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (ASKED, (11000, 80)),
        (ASKED6, (11000, 80)),
        (IP(options=[b"\x01\x01\x01\x00"]) / TCP(sport=5, dport=6), (5, 6)),
        (IP(src=THERE, dst=HERE) / ICMP(type=3, code=3) / ASKED, (11000, 80)),
        (IPv6() / ICMPv6DestUnreach(code=4) / ASKED6, (11000, 80)),
        (IP() / ICMP(type=8), ()),
        (IP(proto=47) / b"\x00\x50\x00\x50", ()),
    ],
)
def test_ports(packet: IP, expected: tuple[int, ...]) -> None:
    assert ports(bytes(packet)) == expected


def test_an_exchange_is_found_by_its_port_and_its_token() -> None:
    answer = IP(src=THERE, dst=HERE) / UDP(sport=80, dport=11000) / b"hello"
    other = IP(src=HERE, dst=THERE) / UDP(sport=11001, dport=80) / b"<ab12-000002>\n"
    found = Sorted(bytes(packet) for packet in (ASKED, answer, other))
    assert [packet.payload for packet in found.with_port(11000)] == [b"<ab12-000001>\n", b"hello"]
    assert [packet.source_port for packet in found.with_token(b"<ab12-000002>")] == [11001]
    assert found.with_token(b"<ab12-000003>") == []


def test_packets_that_tell_the_same_are_read_once_and_a_reset_tells_more() -> None:
    def segment(flags: str, sequence: int) -> bytes:
        return bytes(IP(src=THERE, dst=HERE) / TCP(sport=80, dport=11000, flags=flags, seq=sequence))

    assert gist(segment("SA", 1)) == gist(segment("A", 2)) != gist(segment("RA", 2))
    found = Sorted([segment("SA", 1), segment("A", 2), segment("R", 3)])
    assert len(found.with_port(11000)) == 2


def test_a_leaked_mark_is_held_against_whose_port_it_bears_or_against_all() -> None:
    leaks = Leaks({"node01": [bytes(ASKED)], "node02": []}, [{11000, 80}, {11001}])
    assert leaks.of({11000, 80}) == ["a packet left node01 with the masquerade mark"]
    assert leaks.of({11001}) == []
    assert Leaks({"node01": [bytes(ASKED)]}, [{11001}]).of({11001}) != []
