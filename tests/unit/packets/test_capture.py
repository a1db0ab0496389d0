"""Packets from bytes, and the filter's program run by hand. No root."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment

from testbed.packets.capture import ETH_P_IP, ETH_P_IPV6, RST, Instruction, mark_filter, port_filter
from testbed.packets.dissection import dissect


def test_tcp() -> None:
    data = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1234, dport=80, flags="RA") / b"hello")
    packet = dissect(data)
    assert (packet.protocol, packet.source, packet.source_port) == ("TCP", "10.0.0.1", 1234)
    assert (packet.to, packet.port, packet.payload) == ("10.0.0.2", 80, b"hello")
    assert packet.flags & RST


@pytest.mark.parametrize(("name", "layer"), [("UDP", UDP), ("TCP", TCP)])
def test_an_icmp_error_tells_what_it_is_about(name: str, layer: type) -> None:
    about = IP(src="10.0.0.1", dst="10.96.0.1") / layer(sport=1234, dport=80)
    data = bytes(IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=3, code=3) / about)
    packet = dissect(data)
    assert (packet.protocol, packet.icmp, packet.source) == ("ICMP", (3, 3), "10.0.0.9")
    assert packet.quoted
    assert (packet.quoted.protocol, packet.quoted.to, packet.quoted.port) == (name, "10.96.0.1", 80)
    assert packet.quoted.source_port == 1234


@pytest.mark.parametrize(("name", "layer"), [("UDP", UDP), ("TCP", TCP)])
@pytest.mark.feature("B9")
def test_the_same_in_ipv6(name: str, layer: type) -> None:
    about = IPv6(src="fd00::1", dst="fd00:96::1") / layer(sport=1234, dport=80)
    found = dissect(bytes(about / b"hello"))
    assert (found.protocol, found.source, found.to, found.port) == (name, "fd00::1", "fd00:96::1", 80)
    assert found.payload == b"hello"
    error = dissect(bytes(IPv6(src="fd00::9", dst="fd00::1") / ICMPv6DestUnreach(code=4) / about))
    assert (error.protocol, error.icmp, error.source) == ("ICMPv6", (1, 4), "fd00::9")
    assert error.quoted
    assert (error.quoted.protocol, error.quoted.to, error.quoted.source_port) == (name, "fd00:96::1", 1234)
    assert dissect(bytes(IPv6() / ICMPv6ND_NS())).quoted is None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.feature("B1")
def test_sctp(version: int) -> None:
    sent, lost = bytes.fromhex("04d2 0050 00000001 00000000") + b"chunk", bytes.fromhex("04d20050")
    if version == 4:
        about = IP(src="10.0.0.1", dst="10.96.0.1", proto=132)
        error = IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=3, code=3) / about / (lost + bytes(4))
    else:
        about = IPv6(src="fd00::1", dst="fd00:96::1", nh=132)
        error = IPv6(src="fd00::9", dst="fd00::1") / ICMPv6DestUnreach(code=4) / about / (lost + bytes(4))
    found = dissect(bytes(about / sent))
    assert (found.protocol, found.source_port, found.port, found.payload) == ("SCTP", 1234, 80, b"chunk")
    quoted = dissect(bytes(error)).quoted
    assert quoted
    assert (quoted.protocol, quoted.source_port, quoted.to, quoted.port) == ("SCTP", 1234, found.to, 80)


def accepts(program: list[Instruction], packet: bytes, frame: int = ETH_P_IP, mark: int = 0) -> bool:
    """Classic BPF, the instructions that the filter is made of (Documentation/networking/filter.rst)."""
    a = x = counter = 0
    while True:
        code, if_true, if_false, operand = program[counter]
        counter += 1
        match code:
            case 0x28 if operand == 0xFFFFF000:
                a = frame
            case 0x28:
                a = int.from_bytes(packet[operand : operand + 2])
            case 0x20 if operand == 0xFFFFF014:
                a = mark
            case 0x45:
                counter += if_true if a & operand else if_false
            case 0x30:
                a = packet[operand]
            case 0x48:
                a = int.from_bytes(packet[x + operand : x + operand + 2])
            case 0xB1:
                x = 4 * (packet[operand] & 15)
            case 0x15:
                counter += if_true if a == operand else if_false
            case 0x06:
                return operand != 0
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (IP() / TCP(sport=5, dport=80), True),
        (IP() / TCP(sport=8080, dport=5), True),
        (IP() / UDP(sport=5, dport=30080), True),
        (IP() / UDP(sport=80, dport=80), True),
        (IP() / ICMP(), True),
        (IP() / TCP(sport=6443, dport=443), False),
        (IP() / UDP(sport=53, dport=53), False),
        (IP(proto=132) / b"\x00\x50\x00\x50", True),
        (IP(proto=132) / b"\x00\x51\x00\x51", False),
        (IP(proto=47) / b"\x00\x50\x00\x50", False),
        (IP(options=[b"\x01\x01\x01\x00"]) / TCP(sport=5, dport=80), True),
        (IP(options=[b"\x01\x01\x01\x00"]) / TCP(sport=5, dport=81), False),
    ],
)
def test_the_filter(packet: IP, accepted: bool) -> None:
    assert accepts(port_filter([80, 8080, 30080]), bytes(packet)) is accepted


@pytest.mark.parametrize(
    ("packet", "accepted"),
    [
        (IPv6() / TCP(sport=5, dport=80), True),
        (IPv6() / TCP(sport=8080, dport=5), True),
        (IPv6() / UDP(sport=5, dport=30080), True),
        (IPv6() / ICMPv6DestUnreach(), True),
        (IPv6() / IPv6ExtHdrFragment() / UDP(sport=5, dport=80), True),
        (IPv6() / TCP(sport=6443, dport=443), False),
        (IPv6() / UDP(sport=53, dport=53), False),
        (IPv6(nh=132) / b"\x00\x50\x00\x50", True),
        (IPv6(nh=132) / b"\x00\x51\x00\x51", False),
        (IPv6(nh=47) / b"\x00\x50\x00\x50", False),
    ],
)
@pytest.mark.feature("B9")
def test_the_filter_in_ipv6(packet: IPv6, accepted: bool) -> None:
    assert accepts(port_filter([80, 8080, 30080]), bytes(packet), frame=ETH_P_IPV6) is accepted


def test_the_filter_wants_ip() -> None:
    data = bytes(IP() / TCP(sport=5, dport=80))
    assert not accepts(port_filter([80]), data, frame=0x0806)


def test_a_mark_is_looked_for_in_its_bit() -> None:
    for mark, accepted in ((0, False), (0x4000, True), (0x4001, True), (0x8000, False)):
        assert accepts(mark_filter(0x4000), b"", mark=mark) is accepted
