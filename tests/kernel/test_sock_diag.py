"""Open ports against the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from testbed.kernel.namespaces import inside, loopback_up
from testbed.kernel.netns import scratch
from testbed.kernel.sock_diag import OpenPorts

HERE = ("127.0.0.1", "::1")


@pytest.fixture
def there() -> Iterator[OpenPorts]:
    """The ports of a namespace in which some are open."""
    with scratch() as netns, inside(netns):
        loopback_up()
        both = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
        one = socket.create_server(("127.0.0.1", 81))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("0.0.0.0", 53))
        found = OpenPorts()
    with both, one, datagrams, found:
        yield found


@pytest.mark.parametrize(
    ("protocol", "port", "wanted"),
    [
        ("tcp", 80, (True, True)),
        ("tcp", 81, (True, False)),
        ("udp", 53, (True, False)),
        ("tcp", 53, (False, False)),
    ],
)
def test_a_port_is_open_where_a_packet_finds_a_socket(
    there: OpenPorts, protocol: str, port: int, wanted: tuple[bool, bool]
) -> None:
    assert tuple(there.has(protocol, ip, port) for ip in HERE) == wanted


def test_other_namespaces_do_not_count(there: OpenPorts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not there.has("tcp", *server.getsockname())
        with OpenPorts() as here:
            assert here.has("tcp", *server.getsockname())
