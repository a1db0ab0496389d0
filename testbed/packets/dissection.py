"""Packets read with scapy.

Importing it takes half a second on a laptop and ten in a VM: do so while there is something to wait for.
"""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet import IPerror as QuotedIP

from testbed.packets.capture import Packet


def dissect(data: bytes) -> Packet:
    """An IPv4 packet from its bytes."""
    return _packet(IP(data))


def _packet(ip: IP) -> Packet:
    below = ip.payload
    if isinstance(below, ICMP) and not isinstance(ip, QuotedIP):
        quoted = _packet(below.payload) if isinstance(below.payload, QuotedIP) else None
        return Packet("ICMP", ip.src, 0, ip.dst, 0, icmp=(below.type, below.code), quoted=quoted)
    if isinstance(below, TCP | UDP):
        flags = int(below.flags) if isinstance(below, TCP) else 0
        name = "TCP" if isinstance(below, TCP) else "UDP"
        payload = bytes(below.payload)
        return Packet(name, ip.src, below.sport, ip.dst, below.dport, flags, payload)
    return Packet(str(ip.proto), ip.src, 0, ip.dst, 0)
