"""What the kernel's own words say of a packet's way. No root."""

from __future__ import annotations

import subprocess
import time

import pytest

from testbed.packets import tracing
from testbed.packets.tracing import Way, balanced, counters, events, risen, translated

MONITORED = """\
trace id 0610a649 inet testbed-trace output rule tcp sport 12345 meta nftrace set 1 (verdict continue)
trace id 0610a649 ip nat OUTPUT packet: oif "lo" ip saddr 10.1.1.1 ip daddr 10.9.9.9 tcp sport 12345
trace id 0610a649 ip nat OUTPUT rule  counter packets 0 bytes 0 jump KUBE-SVC-X (verdict jump KUBE-SVC-X)
trace id 0610a649 ip kube-proxy services rule ip daddr . th dport vmap @service-ips (verdict goto service-A)
trace id 0610a649 ip nat KUBE-SVC-X rule ip daddr 10.9.9.9 dnat to 127.0.0.1:9999 (verdict accept)
trace id 0610a649 ip nat OUTPUT policy accept
trace id 99999999 ip filter OUTPUT rule ct state established (verdict accept)
"""


def test_the_first_packet_is_followed_and_where_a_map_led_is_told() -> None:
    assert events(MONITORED) == [
        ("ip nat OUTPUT", "jump KUBE-SVC-X"),
        ("ip kube-proxy services", "ip daddr . th dport vmap @service-ips → goto service-A"),
        ("ip nat KUBE-SVC-X", "ip daddr 10.9.9.9 dnat to 127.0.0.1:9999"),
    ]


SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
[{0}:60] -A PREROUTING -j KUBE-SERVICES
[7:420] -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -j KUBE-SVC-A
[{1}:60] -A KUBE-SERVICES -d 10.96.0.9/32 -p tcp -j KUBE-SVC-B
[{2}:60] -A KUBE-SVC-B -j DNAT --to-destination 10.244.1.2:80
COMMIT
"""


def test_counters_that_rose_tell_the_way_along_the_jumps() -> None:
    before, after = counters(SAVED.format(5, 1, 1)), counters(SAVED.format(6, 2, 2))
    assert risen(before, after) == [
        ("nat PREROUTING", "-j KUBE-SERVICES"),
        ("nat KUBE-SERVICES", "-d 10.96.0.9/32 -p tcp -j KUBE-SVC-B"),
        ("nat KUBE-SVC-B", "-j DNAT --to-destination 10.244.1.2:80"),
    ]
    assert risen(after, after) == []


def test_a_connection_in_words() -> None:
    line = (
        "tcp 6 117 SYN_SENT src=172.30.0.250 dst=172.30.0.11 sport=25563 dport=30080 "
        "src=10.244.1.2 dst=10.244.1.1 sport=80 dport=49876 mark=0 use=1"
    )
    assert list(translated(line)) == [
        "connection 172.30.0.250:25563 → 172.30.0.11:30080, destination translated to 10.244.1.2:80, "
        "source to 10.244.1.1:49876"
    ]
    assert list(translated("conntrack v1.4.7: 0 flow entries")) == []


BALANCED = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF40103 7D6E 0A60A1B4 0050 0AF40102 1F90 ESTABLISHED     899
UDP 0AF40103 7D6E 0A60A1B4 0035 0AF40102 0035 UDP             299
TCP fd00:0010:0244:0001:0000:0000:0000:0003 8D6F fd00:0010:0096:0000:0000:0000:0000:0009 0050 """
BALANCED += "fd00:0010:0244:0001:0000:0000:0000:0002 1F90 FIN_WAIT        119\n"


def test_where_ipvs_has_sent_it_in_words() -> None:
    assert list(balanced(BALANCED, "TCP", 0x7D6E)) == [
        "IPVS: 10.96.161.180:80 sent to 10.244.1.2:8080, ESTABLISHED"
    ]
    assert list(balanced(BALANCED, "TCP", 0x8D6F)) == [
        "IPVS: [fd00:10:96::9]:80 sent to [fd00:10:244:1::2]:8080, FIN_WAIT"
    ]
    assert list(balanced("", "TCP", 1)) == []


def test_a_node_that_saw_nothing_says_so() -> None:
    assert list(Way("node02").lines()) == ["node02", "  it did not come here"]
    assert list(Way("node01", [("nat A", "x"), ("filter LONG", "y")]).lines()) == [
        "node01",
        "  nat A        x",
        "  filter LONG  y",
    ]


def test_a_monitor_that_never_falls_silent_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LONGEST_SECONDS", 0.5)
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as monitor:
        began = time.monotonic()
        assert tracing._printed(monitor, 0.3).startswith("y\ny\n")
        assert 0.5 <= time.monotonic() - began < 20
        monitor.kill()
