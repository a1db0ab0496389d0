"""IP Virtual Server: what it balances, read from /proc/net/ip_vs and changed over generic netlink in bulk.

Source of numbers and meanings: linux/ip_vs.h, net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyroute2.netlink.generic.ipvs import (
    IPVS_CMD_DEL_DEST,
    IPVS_CMD_DEL_SERVICE,
    IPVS_CMD_FLUSH,
    IPVS_CMD_GET_DEST,
    IPVS_CMD_GET_SERVICE,
    IPVS_CMD_NEW_DEST,
    IPVS_CMD_NEW_SERVICE,
    IPVS_CMD_SET_CONFIG,
    IPVS_CMD_SET_DEST,
    IPVS_CMD_SET_SERVICE,
)

from testbed.errors import TestbedError
from testbed.kernel.netlink import Netlink, attribute, attributes

log = logging.getLogger(__name__)

TABLE = Path("/proc/thread-self/net/ip_vs")
PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
PERSISTENT = 0x1
MASQUERADE = 0
"""Forwarding method: destination address translation. Not the default of every client library."""
_NETLINK_GENERIC, _CTRL, _CTRL_GETFAMILY = 16, 16, 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME = 1, 2
# attributes: of a message, of a service, of a server (linux/ip_vs.h)
_SERVICE, _SERVER, _TCP_TIMEOUT, _TCPFIN_TIMEOUT, _UDP_TIMEOUT = 1, 2, 4, 5, 6
_FAMILY, _PROTOCOL, _ADDRESS, _PORT, _SCHEDULER, _FLAGS, _TIMEOUT, _NETMASK = 1, 2, 3, 4, 6, 7, 8, 9
_SERVER_ADDRESS, _SERVER_PORT, _FORWARD, _WEIGHT, _ACTIVE, _INACTIVE = 1, 2, 3, 4, 7, 8
SCHEDULER_FLAGS = {"sh": 0x08, "mh": 0x18}
"""0x08: a client whose server has weight 0 gets another, not a refusal. 0x10: mh hashes the port too, as
kube-proxy has it."""
_PROBE = ("TCP", "127.255.255.254", 1)
"""A front that exists for an instant, to see whether the kernel has a scheduler."""

Address = tuple[str, int]
Front = tuple[str, str, int]
"""Protocol (TCP, UDP, SCTP), address, port."""


@dataclass(frozen=True)
class VirtualServer:
    """How IPVS serves one front. `persistence`: seconds a client stays with its server, 0 for none."""

    scheduler: str
    persistence: int = 0
    servers: Mapping[Address, int] = field(default_factory=dict)
    """Real servers and their weights."""


Table = dict[Front, VirtualServer]


class Ipvs:
    """IPVS of the current network namespace. Raises TestbedError where the kernel has none."""

    def __init__(self) -> None:
        self._netlink = Netlink(_NETLINK_GENERIC)
        try:
            self._family = self._family_id()
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["modprobe", "ip_vs"], capture_output=True, check=False)
            try:
                self._family = self._family_id()
            except OSError:
                raise TestbedError(
                    "this kernel has no IPVS (module ip_vs); `testbed vm run` brings one that has"
                ) from None

    def _family_id(self) -> int:
        name = attribute(_CTRL_FAMILY_NAME, b"IPVS\0")
        answer = self._netlink.get(_CTRL, struct.pack("=BBH", _CTRL_GETFAMILY, 1, 0) + name)
        return int(struct.unpack("=H", dict(attributes(answer[4:]))[_CTRL_FAMILY_ID])[0])

    def read(self) -> Table:
        """Every virtual server with its real servers.

        The file has all in one go, but where other namespaces have servers too it skips some at the end of
        each page: its place is counted among everybody's (ip_vs_info_seq_next, ip_vs_info_array). Netlink
        has them.
        """
        told = parse(TABLE.read_text())
        table: Table = {}
        for front, scheduler, seconds in list(self._fronts()):  # a socket has one dump under way
            servers = told[front].servers if front in told else self._weights(front)
            table[front] = VirtualServer(scheduler, seconds, servers)
        return table

    def _fronts(self) -> Iterator[tuple[Front, str, int]]:
        """Each front, its scheduler, and how long a client stays with its server, in seconds."""
        names = {number: name for name, number in PROTOCOLS.items()}
        for answer in self._netlink.dump(self._family, struct.pack("=BBH", IPVS_CMD_GET_SERVICE, 1, 0)):
            about = dict(attributes(dict(attributes(answer[4:]))[_SERVICE]))
            if protocol := names.get(struct.unpack("=H", about.get(_PROTOCOL, b"\0\0"))[0]):
                family = struct.unpack("=H", about[_FAMILY])[0]
                raw = about[_ADDRESS][: 4 if family == socket.AF_INET else 16]
                (port,) = struct.unpack("!H", about[_PORT])
                (flags,) = struct.unpack_from("=I", about[_FLAGS])
                (seconds,) = struct.unpack("=I", about[_TIMEOUT])
                front = (protocol, socket.inet_ntop(family, raw), port)
                yield front, about[_SCHEDULER].rstrip(b"\0").decode(), seconds if flags & PERSISTENT else 0

    def _reals(self, front: Front) -> Iterator[tuple[Address, dict[int, int]]]:
        """Each real server of a front, and the numbers that the kernel tells of it."""
        version6 = ":" in front[1]
        head = struct.pack("=BBH", IPVS_CMD_GET_DEST, 1, 0)
        for answer in self._netlink.dump(self._family, head + _service(front, None)):
            about = dict(attributes(dict(attributes(answer[4:]))[_SERVER]))
            raw = about[_SERVER_ADDRESS][: 16 if version6 else 4]
            ip = socket.inet_ntop(socket.AF_INET6 if version6 else socket.AF_INET, raw)
            (port,) = struct.unpack("!H", about[_SERVER_PORT])
            numbers = (_FORWARD, _WEIGHT, _ACTIVE, _INACTIVE)
            yield (ip, port), {kind: struct.unpack("=I", about[kind])[0] for kind in numbers}

    def _weights(self, front: Front) -> dict[Address, int]:
        """Another forwarding method is another server; weight -1 has it set right."""
        return {
            real: numbers[_WEIGHT] if numbers[_FORWARD] == MASQUERADE else -1
            for real, numbers in self._reals(front)
        }

    def change(self, have: Mapping[Front, VirtualServer], want: Mapping[Front, VirtualServer]) -> int:
        """Turn `have` into `want`; returns the number of messages. Raises TestbedError at a failure.

        A real server that the kernel takes for no host's address is logged and left out.
        """
        messages = list(differences(have, want))
        failed = self._netlink.request(
            (self._family, 0, struct.pack("=BBH", command, 1, 0) + body) for command, _, body in messages
        )
        for position, code in failed.items():
            command, front, _ = messages[position]
            gone = command in (IPVS_CMD_DEL_DEST, IPVS_CMD_DEL_SERVICE)
            if gone and code in (errno.ENOENT, errno.ESRCH):
                continue
            if command == IPVS_CMD_NEW_DEST and code == errno.EINVAL:
                log.error("IPVS takes a server of %s for no host: ignoring it", front)
                continue
            raise TestbedError(f"IPVS refused a change of {front}: {errno.errorcode.get(code, code)}")
        return len(messages)

    def require(self, scheduler: str) -> None:
        """Raises TestbedError when the kernel has no such scheduler; asking loads its module."""
        try:
            self.change({}, {_PROBE: VirtualServer(scheduler)})
        except TestbedError:
            raise TestbedError(
                f"this kernel has no IPVS scheduler {scheduler} (module ip_vs_{scheduler}); "
                "choose another --ipvs-scheduler, or `testbed vm run` brings a kernel that has it"
            ) from None
        self.change({_PROBE: VirtualServer(scheduler)}, {})

    def set_timeouts(self, tcp: int = 0, tcpfin: int = 0, udp: int = 0) -> None:
        """How long an idle connection is remembered, in seconds; 0 leaves what is. Raises TestbedError."""
        values = ((_TCP_TIMEOUT, tcp), (_TCPFIN_TIMEOUT, tcpfin), (_UDP_TIMEOUT, udp))
        body = b"".join(attribute(kind, struct.pack("=I", value)) for kind, value in values)
        failed = self._netlink.request(
            [(self._family, 0, struct.pack("=BBH", IPVS_CMD_SET_CONFIG, 1, 0) + body)]
        )
        for code in failed.values():
            name = errno.errorcode.get(code, code)
            raise TestbedError(f"IPVS refused timeouts of {tcp}, {tcpfin} and {udp} s: {name}")

    def connections(self, front: Front) -> dict[Address, int]:
        """How many connections each real server of a front has, ended ones that are remembered included."""
        return {real: numbers[_ACTIVE] + numbers[_INACTIVE] for real, numbers in self._reals(front)}

    def flush(self) -> None:
        """Remove every virtual server."""
        self._netlink.request([(self._family, 0, struct.pack("=BBH", IPVS_CMD_FLUSH, 1, 0))])


def differences(
    have: Mapping[Front, VirtualServer], want: Mapping[Front, VirtualServer]
) -> Iterator[tuple[int, Front, bytes]]:
    """Commands in order: new and changed fronts, new servers before old ones go, then fronts that go."""
    for front, server in want.items():
        held = have.get(front)
        if held is server:
            continue
        if held is None:
            yield IPVS_CMD_NEW_SERVICE, front, _service(front, server)
        elif (held.scheduler, held.persistence) != (server.scheduler, server.persistence):
            yield IPVS_CMD_SET_SERVICE, front, _service(front, server)
        had = held.servers if held else {}
        key = _service(front, None)
        for real, weight in server.servers.items():
            if real not in had:
                yield IPVS_CMD_NEW_DEST, front, key + _server(real, weight)
            elif had[real] != weight:
                yield IPVS_CMD_SET_DEST, front, key + _server(real, weight)
        for real in had:
            if real not in server.servers:
                yield IPVS_CMD_DEL_DEST, front, key + _server(real, 0)
    for front in have:
        if front not in want:
            yield IPVS_CMD_DEL_SERVICE, front, _service(front, None)


def _service(front: Front, server: VirtualServer | None) -> bytes:
    """IPVS_CMD_ATTR_SERVICE: the key of a front, and with `server` all that it is to be."""
    protocol, ip, port = front
    family, raw = _raw(ip)
    body = (
        struct.pack("=HHHxxHHHxx", 6, _FAMILY, family, 6, _PROTOCOL, PROTOCOLS[protocol])
        + attribute(_ADDRESS, raw)
        + attribute(_PORT, struct.pack("!H", port))
    )
    if server:
        flags = SCHEDULER_FLAGS.get(server.scheduler, 0) | (PERSISTENT if server.persistence else 0)
        netmask = 0xFFFFFFFF if family == socket.AF_INET else 128
        body += (
            attribute(_SCHEDULER, server.scheduler.encode() + b"\0")
            + attribute(_FLAGS, struct.pack("=II", flags, 0xFFFFFFFF))
            + attribute(_TIMEOUT, struct.pack("=I", server.persistence))
            + attribute(_NETMASK, struct.pack("=I", netmask))
        )
    return attribute(_SERVICE, body)


def _server(real: Address, weight: int) -> bytes:
    """IPVS_CMD_ATTR_DEST."""
    family, raw = _raw(real[0])
    numbers = struct.pack("=HHIHHIHHIHHI", 8, 3, MASQUERADE, 8, 4, weight, 8, 5, 0, 8, 6, 0)
    body = attribute(1, raw) + attribute(2, struct.pack("!H", real[1])) + numbers
    return attribute(_SERVER, body + attribute(11, struct.pack("=H", family)))


def _raw(ip: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, socket.inet_pton(family, ip)


_FRONT = re.compile(r"(TCP|UDP|SCTP) +(\S+) +(\S+)(?: +ops)?(?: +persistent (\d+))?")
_REAL = re.compile(r"  -> (\S+) +(\S+) +(\d+)")


def parse(text: str) -> Table:
    """/proc/net/ip_vs as a table; persistence is in the kernel's ticks there.

    Fronts that are firewall marks are left out: they are not a proxy's.
    """
    table: Table = {}
    servers: dict[Address, int] | None = None
    for line in text.splitlines():
        if real := _REAL.match(line):
            if servers is not None and real[2] != "Forward":
                # another forwarding method is another server; weight -1 has it set right
                servers[_address(real[1])] = int(real[3]) if real[2] == "Masq" else -1
        elif front := _FRONT.match(line):
            servers = {}
            table[(front[1], *_address(front[2]))] = VirtualServer(front[3], int(front[4] or 0), servers)
        else:
            servers = None
    return table


def _address(text: str) -> Address:
    """`0A600007:0050` or `[2001:db8::1]:0050`."""
    ip, _, port = text.rpartition(":")
    if ip.startswith("["):
        return str(socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, ip[1:-1]))), int(
            port, 16
        )
    return socket.inet_ntop(socket.AF_INET, bytes.fromhex(ip)), int(port, 16)
