"""A network without a cluster, for the instruction clock: each column has a row of four namespaces.

    client ───────── node ───────── server ──────── backend
    10.244.1.2       172.30.0.1     172.30.0.2      10.244.0.2

All rows are alike to the last address and share no namespace: columns differ by their rules alone. Every MAC
is fixed and known to its neighbour, and there is no IPv6: nothing has to be asked or found, so no timer of
neighbour discovery runs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed.kernel import sysctl
from testbed.kernel.namespaces import enter

NAMES = Path("/run/netns")
"""Where ip-netns(8) keeps namespaces by name."""

CLIENT, BACKEND = "10.244.1.2", "10.244.0.2"
ROW = ("client", "node", "server", "backend")
LINKS = (
    (("client", "eth0", CLIENT), ("node", "pod", "10.244.1.1")),
    (("node", "eth0", "172.30.0.1"), ("server", "eth0", "172.30.0.2")),
    (("server", "pod", "10.244.0.1"), ("backend", "eth0", BACKEND)),
)
"""Pairs of ends: (namespace, link, its address of a /24)."""
ROUTES = {
    "client": "default via 10.244.1.1",
    "node": "default via 172.30.0.2",
    "server": "10.244.1.0/24 via 172.30.0.1",
    "backend": "default via 10.244.0.1",
}
ROOM = "10240 65535"
"""Ports for listeners: a userspace proxy takes one for each Service, and the usual range has 28,232."""
SYSCTLS: dict[str, int | str] = {
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
    "net.ipv4.ip_forward": 1,
    "net.ipv4.ip_local_port_range": ROOM,
}


def namespace(role: str, row: int) -> Path:
    """The file of a namespace of a row: "client", "node", "server" or "backend"."""
    return NAMES / f"{role}{row}"


def creation(row: int) -> Iterator[str]:
    """Lines for `ip -batch` that make a row's namespaces and the links between them."""
    yield from (f"netns add {role}{row}" for role in ROW)
    for number, ((here, link, _), (there, peer, _)) in enumerate(LINKS):
        yield (
            f"link add {link} netns {here}{row} address {_mac(number, 0)} type veth "
            f"peer name {peer} netns {there}{row} address {_mac(number, 1)}"
        )


def settings(role: str) -> Iterator[str]:
    """Lines for `ip -batch` inside a namespace: addresses, the neighbours, the route."""
    for number, ends in enumerate(LINKS):
        for side, (space, link, address) in enumerate(ends):
            if space == role:
                yield f"addr add {address}/24 dev {link}"
                yield f"link set {link} up"
                neighbour = ends[1 - side][2]
                yield f"neigh replace {neighbour} lladdr {_mac(number, 1 - side)} nud permanent dev {link}"
    yield f"route add {ROUTES[role]}"


def _mac(number: int, side: int) -> str:
    return f"02:00:00:00:{number:02x}:{side:02x}"


def build(rows: int) -> None:
    """Make the rows 0 to `rows` - 1. Meant for a VM: it leaves the caller in one of the namespaces."""
    _ip(line for row in range(rows) for line in creation(row))
    for row in range(rows):
        for role in ROW:
            enter(namespace(role, row))
            for key, value in SYSCTLS.items():
                sysctl.put(key, value)
            _ip(settings(role))


def _ip(lines: Iterator[str]) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join([*lines, ""]), text=True, check=True)
