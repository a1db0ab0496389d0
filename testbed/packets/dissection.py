"""Packets read with scapy.

Importing it takes half a second on a laptop and ten in a VM: do so while there is something to wait for.
"""

from __future__ import annotations

import struct
from socket import IPPROTO_SCTP

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet import IPerror as QuotedIP
from scapy.layers.inet6 import IPerror6 as QuotedIPv6
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, _ICMPv6Error

from testbed.packets.capture import Packet

SCTP_HEADER = 12
"""Bytes; after it are chunks. Scapy's own layer is not asked: importing it takes its time, too."""


def dissect(data: bytes) -> Packet:
    """An IPv4 or IPv6 packet from its bytes."""
    return _packet(IP(data) if data[0] >> 4 == 4 else IPv6(data))


def _packet(ip: IP | IPv6) -> Packet:
    below = ip.payload.payload if isinstance(ip.payload, IPv6ExtHdrFragment) else ip.payload
    if isinstance(below, ICMP | _ICMPv6Error) and not isinstance(ip, QuotedIP | QuotedIPv6):
        quoted = _packet(below.payload) if isinstance(below.payload, QuotedIP | QuotedIPv6) else None
        name = "ICMP" if isinstance(below, ICMP) else "ICMPv6"
        return Packet(name, ip.src, 0, ip.dst, 0, icmp=(below.type, below.code), quoted=quoted)
    if isinstance(below, TCP | UDP):
        flags = int(below.flags) if isinstance(below, TCP) else 0
        name = "TCP" if isinstance(below, TCP) else "UDP"
        payload = bytes(below.payload)
        return Packet(name, ip.src, below.sport, ip.dst, below.dport, flags, payload)
    if (ip.proto if isinstance(ip, IP) else ip.nh) == IPPROTO_SCTP:
        source, to = struct.unpack_from("!HH", data := bytes(below))
        return Packet("SCTP", ip.src, source, ip.dst, to, payload=data[SCTP_HEADER:])
    return Packet(str(ip.proto if isinstance(ip, IP) else ip.nh), ip.src, 0, ip.dst, 0)
