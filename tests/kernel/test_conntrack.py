"""The flow table of the kernel, by the thousand, in both families."""

from __future__ import annotations

import socket
import subprocess

import pytest

from testbed.kernel.conntrack import Flow, flows, forget
from testbed.kernel.netns import Worker, scratch

FLOWS = 2000
PORT = 5353
HOSTS = {4: "127.0.0.1", 6: "::1"}
TRACK = "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }"


def make(host: str) -> None:
    """A datagram from each of FLOWS ports, and one TCP connection."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", "-f", "-"], input=TRACK, text=True, check=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((host, PORT))
        for number in range(FLOWS):
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.bind((host, 20000 + number))
                client.sendto(b"?", (host, PORT))
    with socket.create_server((host, PORT), family=family) as tcp, socket.create_connection((host, PORT)):
        tcp.accept()[0].close()


def udp_flows(family: int) -> list[Flow]:
    return list(flows({socket.IPPROTO_UDP}, family))


def forgotten(family: int) -> tuple[int, int]:
    """All but one are deleted, and then all of these again, when they are not there."""
    some = udp_flows(family)[1:]
    return forget(some, family), forget(some, family)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.needs("conntrack")
@pytest.mark.feature("B11")
def test_flows_are_read_and_forgotten_in_bulk(family: int) -> None:
    host = HOSTS[family]
    with scratch() as path, Worker(path) as inside:
        inside.call(make, host)
        found = inside.call(udp_flows, family)
        assert len(found) == FLOWS
        assert {(one.front, one.backend) for one in found} == {((host, PORT), (host, PORT))}
        assert not inside.call(udp_flows, 10 - family)
        assert inside.call(forgotten, family) == (FLOWS - 1, 0)
        assert len(inside.call(udp_flows, family)) == 1
