"""/proc/net/ip_vs as the kernel prints it, and the order of commands that a difference makes."""

from __future__ import annotations

import pytest
from pyroute2.netlink.generic import ipvs as numbers

from testbed.kernel.ipvs import VirtualServer, differences, parse

TEXT = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600007:0050 rr persistent 10800 FFFFFFFF
  -> 0AF40102:1F90      Masq    1      2          0
  -> 0AF40202:1F90      Route   1      0          0
UDP  [fd00:0000:0000:0000:0000:0000:0000:0007]:0035 wlc
  -> [fd01:0000:0000:0000:0000:0000:0000:0002]:0035      Masq    3      0          0
FWM  00000001 rr
  -> 0AF40302:1F90      Masq    1      0          0
SCTP 0A600008:0009 sh ops
"""
TABLE = {
    ("TCP", "10.96.0.7", 80): VirtualServer("rr", 10800, {("10.244.1.2", 8080): 1, ("10.244.2.2", 8080): -1}),
    ("UDP", "fd00::7", 53): VirtualServer("wlc", 0, {("fd01::2", 53): 3}),
    ("SCTP", "10.96.0.8", 9): VirtualServer("sh", 0, {}),
}
FRONT = ("TCP", "10.96.0.7", 80)
A, B = ("10.244.1.2", 8080), ("10.244.2.2", 8080)


def test_parse() -> None:
    assert parse(TEXT) == TABLE


ROWS = [
    ({}, {FRONT: VirtualServer("rr", 0, {A: 1})}, ["NEW_SERVICE", "NEW_DEST"]),
    ({FRONT: VirtualServer("rr", 0, {A: 1})}, {}, ["DEL_SERVICE"]),
    ({FRONT: VirtualServer("rr")}, {FRONT: VirtualServer("lc")}, ["SET_SERVICE"]),
    ({FRONT: VirtualServer("rr")}, {FRONT: VirtualServer("rr", 60)}, ["SET_SERVICE"]),
    (
        {FRONT: VirtualServer("rr", 0, {A: 1})},
        {FRONT: VirtualServer("rr", 0, {B: 1})},
        ["NEW_DEST", "DEL_DEST"],
    ),
    ({FRONT: VirtualServer("rr", 0, {A: -1})}, {FRONT: VirtualServer("rr", 0, {A: 1})}, ["SET_DEST"]),
    ({FRONT: VirtualServer("rr", 0, {A: 1})}, {FRONT: VirtualServer("rr", 0, {A: 1})}, []),
]


@pytest.mark.parametrize(("have", "want", "commands"), ROWS)
def test_differences(
    have: dict[tuple[str, str, int], VirtualServer],
    want: dict[tuple[str, str, int], VirtualServer],
    commands: list[str],
) -> None:
    expected = [getattr(numbers, f"IPVS_CMD_{name}") for name in commands]
    assert [command for command, _, _ in differences(have, want)] == expected
