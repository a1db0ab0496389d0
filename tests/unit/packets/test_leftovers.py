"""What of a mode is found on a node, from what its commands print. No root."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from testbed.packets.leftovers import TRACES, found

SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
"""
PRINTED = {
    "iptables-save": SAVED
    + ":KUBE-SEP-AAAA - [0:0]\n:KUBE-NODEPORTS - [0:0]\n-A KUBE-SVC-A -j KUBE-SEP-AAAA\n",
    "ip6tables-save": SAVED + ":KUBE-SEP-BBBB - [0:0]\n",
    "cat": "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
    "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  0A600001:01BB rr\n",
    "ip": "1: lo: <LOOPBACK,UP>\n3: kube-ipvs0: <BROADCAST,NOARP>\n",
    "ipset": "KUBE-CLUSTER-IP\nOTHER\n",
    "nft": "table ip nat\ntable ip kube-proxy\n",
    "ps": "COMMAND\ninit\nhaproxy\nhaproxy-wrapper\n",
}
EXPECTED = {
    "iptables": ["KUBE-SEP-AAAA", "KUBE-SEP-BBBB"],
    "ipvs": ["TCP  0A600001:01BB", "kube-ipvs0", "KUBE-CLUSTER-IP"],
    "nftables": ["kube-proxy"],
    "userspace": [],
    "userspace-haproxy": ["haproxy"],
}


def test_every_mode_has_its_traces() -> None:
    assert set(TRACES) == set(EXPECTED)


@pytest.mark.parametrize("mode", EXPECTED)
def test_found(mode: str) -> None:
    def run(argv: Sequence[str]) -> str:
        return PRINTED[argv[0]]

    assert found(mode, run) == EXPECTED[mode]


@pytest.mark.parametrize("mode", EXPECTED)
def test_a_clean_node_has_nothing(mode: str) -> None:
    assert found(mode, lambda argv: SAVED if argv[0].endswith("tables-save") else "") == []


def test_userspace_chains_are_told_from_those_that_modes_share() -> None:
    text = ":KUBE-PORTALS-CONTAINER - [0:0]\n:KUBE-NODEPORT-HOST - [0:0]\n:KUBE-NODEPORTS - [0:0]\n"
    assert found("userspace", lambda _: text) == 2 * ["KUBE-PORTALS-CONTAINER", "KUBE-NODEPORT-HOST"]
    assert found("iptables", lambda _: text) == []


def test_what_the_successor_has_too_is_not_left_over() -> None:
    text = ":KUBE-PORTALS-CONTAINER - [0:0]\n"
    assert found("userspace-haproxy", lambda _: text, "userspace") == []
