"""A pcap file that scapy reads. No root."""

from __future__ import annotations

from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import rdpcap

from testbed.packets.evidence import pcap


def test_what_was_captured_is_in_the_file_in_order(tmp_path: Path) -> None:
    sent = [IP(src="10.0.0.1") / UDP(sport=11000, dport=80), IPv6(src="fd00::1") / UDP(dport=81)]
    (tmp_path / "near.pcap").write_bytes(pcap([bytes(packet) for packet in sent]))
    read = rdpcap(str(tmp_path / "near.pcap"))
    assert [(packet.src, packet[UDP].dport) for packet in read] == [("10.0.0.1", 80), ("fd00::1", 81)]
