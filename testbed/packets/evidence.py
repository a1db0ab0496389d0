"""What is kept of a case that failed: its packets as pcap files, and what the nodes held at that moment."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from testbed.packets.site import Site

MOST = 10
"""Failures of one mode of which something is kept: who has many has one cause, and dumps take time."""

LINKTYPE_RAW = 101
MAGIC = 0xA1B2C3D4

HELD: Mapping[str, Sequence[str]] = {
    "iptables": ("iptables-save", "-c"),
    "ip6tables": ("ip6tables-save", "-c"),
    "nft": ("nft", "list", "ruleset"),
    "ipset": ("ipset", "save"),
    "ip_vs": ("cat", "/proc/net/ip_vs", "/proc/net/ip_vs_conn"),
    "conntrack": ("conntrack", "-L"),
    "log": ("tail", "-n", "200", "/var/log/kube-proxy.log"),
}
"""What a node is asked, by the name of the file that takes the answer."""


class Evidence:
    """A directory with one for each failed case, `MODE/CASE`; made when the first fails."""

    def __init__(self, directory: Path, site: Site) -> None:
        self.directory = directory
        self._site = site
        self._kept: dict[str, int] = {}

    def keep(self, mode: str, case: str, packets: Mapping[str, Sequence[bytes]]) -> Path | None:
        """`packets` by the place that captured them. The directory, None where enough has been kept."""
        self._kept[mode] = self._kept.get(mode, 0) + 1
        if self._kept[mode] > MOST:
            return None
        target = self.directory / mode / re.sub(r"[^\w.-]+", "_", case)
        target.mkdir(parents=True, exist_ok=True)
        for place, captured in packets.items():
            if captured:
                (target / f"{place}.pcap").write_bytes(pcap(captured))
        for node in self._site.spec.nodes:
            for name, words in HELD.items():
                with suppress(OSError, subprocess.SubprocessError):
                    held = self._site.machine(node.name).run(words, check=False).stdout
                    if held:
                        (target / f"{node.name}.{name}.txt").write_text(held)
        return target


def pcap(packets: Sequence[bytes]) -> bytes:
    """A pcap file of IP packets in their order; when each came is not told."""
    head = struct.pack("=IHHiIII", MAGIC, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    records = (
        struct.pack("=IIII", 0, number, len(data), len(data)) + data for number, data in enumerate(packets)
    )
    return head + b"".join(records)
