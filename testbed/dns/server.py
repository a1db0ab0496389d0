"""The sockets: questions over UDP and TCP, answered from the zone or passed on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from testbed.dns import wire
from testbed.dns.zone import Zone
from testbed.errors import UsageError

BATCH = 64
"""Datagrams taken in a row before the loop sees to anything else."""
MOST_CACHED = 20_000
FORWARD_TIMEOUT, IDLE_TIMEOUT = 2.0, 10.0
LONGEST_MESSAGE = 65535


@dataclass(frozen=True)
class Upstream:
    """Where questions below `domain` are passed on to; "" for all others."""

    domain: str
    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """`[DOMAIN=]ADDRESS[:PORT]`. Raises UsageError."""
        domain, _, place = text.rpartition("=")
        bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", place)
        address, _, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
        if bracketed:
            address, port = bracketed[1], bracketed[2] or ""
        try:
            return cls(domain.strip(".").lower(), ip_address(address).compressed, int(port or 53))
        except ValueError:
            raise UsageError(f"--forward {text!r} is not [DOMAIN=]ADDRESS[:PORT]") from None

    def covers(self, name: str) -> bool:
        return not self.domain or name == self.domain or name.endswith(f".{self.domain}")


class Server:
    """Answers for the zone. `ttl`: seconds that a positive answer may be remembered."""

    def __init__(self, zone: Zone, upstreams: Sequence[Upstream] = (), ttl: int = 5) -> None:
        self._zone = zone
        self._ttl = ttl
        self._cache: dict[bytes, bytes] = {}
        self.ask_elsewhere(upstreams)
        self._cached_version = -1
        self._tasks: set[asyncio.Task[None]] = set()

    def ask_elsewhere(self, upstreams: Sequence[Upstream]) -> None:
        """From now on, ask these for names that are not the zone's."""
        self._upstreams = sorted(upstreams, key=lambda each: -len(each.domain))
        self._cache.clear()

    # --- answers

    def answer(self, message: bytes, over_udp: bool = True) -> bytes | None:
        """The answer to a message; b"" for silence, None when it must be asked elsewhere."""
        if self._cached_version != self._zone.version or len(self._cache) > MOST_CACHED:
            self._cache.clear()
            self._cached_version = self._zone.version
        key = message[2:]
        held = self._cache.get(key) if over_udp else None
        if held is not None:
            return message[:2] + held
        try:
            query = wire.parse(message)
        except wire.Malformed as fault:
            return b"" if fault.rcode is None else wire.refusal(message, fault.rcode)
        made, fixed = self._answer(query, query.size if over_udp else LONGEST_MESSAGE)
        if made and fixed and over_udp:
            self._cache[key] = made[2:]
        return made

    def _answer(self, query: wire.Query, limit: int) -> tuple[bytes | None, bool]:
        """The answer, and whether it is the same every time."""
        recursion = bool(self._upstreams)
        if not self._zone.owns(query.name):
            if self._upstream(query.name):
                return None, False
            if not self._zone.is_reverse(query.name):
                return wire.answer(query, wire.REFUSED, limit=limit), True
        found = self._zone.find(query.name, query.type)
        if found.leads_to and self._upstream(found.leads_to):
            return None, False
        made = wire.answer(
            query,
            found.rcode,
            found.sections,
            ttl=self._ttl,
            authoritative=True,
            recursion=recursion,
            limit=limit,
        )
        return made, len(found.answers) < 2

    def _upstream(self, name: str) -> list[Upstream]:
        """Those to ask, of the longest domain that covers the name."""
        fit = [each for each in self._upstreams if each.covers(name)]
        return [each for each in fit if each.domain == fit[0].domain]

    async def forward(self, message: bytes, over_udp: bool) -> bytes:
        """The answer from elsewhere; for a name of ours that is an alias, with the alias before it."""
        query = wire.parse(message)
        if not self._zone.owns(query.name):
            return await self._elsewhere(query, message, over_udp)
        found = self._zone.find(query.name, query.type)
        asked = wire.question(query.id, found.leads_to, query.type)
        answer = await self._elsewhere(wire.parse(asked), asked, over_udp=False)
        rcode, records = wire.read_answer(answer)
        limit = query.size if over_udp else LONGEST_MESSAGE
        sections = ([*found.answers, *records], (), ())
        return wire.answer(query, rcode, sections, ttl=self._ttl, recursion=True, limit=limit)

    async def _elsewhere(self, query: wire.Query, message: bytes, over_udp: bool) -> bytes:
        """The answer of the first upstream that gives one, else SERVFAIL."""
        for each in self._upstream(query.name):
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(FORWARD_TIMEOUT):
                    return await (_ask(each, message) if over_udp else _ask_over_tcp(each, message))
        return wire.answer(query, wire.SERVFAIL)

    # --- sockets

    def serve_udp(self, bound: socket.socket) -> None:
        """Answer on a bound, non-blocking socket from now on."""
        asyncio.get_running_loop().add_reader(bound, self._readable, bound)

    def _readable(self, bound: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                message, peer = bound.recvfrom(LONGEST_MESSAGE)
            except OSError:  # nothing more, or an ICMP error to an earlier answer
                return
            made = self.answer(message)
            if made is None:
                task = asyncio.create_task(self._pass_on(bound, message, peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif made:
                with contextlib.suppress(OSError):
                    bound.sendto(made, peer)

    async def _pass_on(self, bound: socket.socket, message: bytes, peer: tuple[str, int]) -> None:
        made = await self.forward(message, over_udp=True)
        with contextlib.suppress(OSError):
            bound.sendto(made, peer)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end: each message has two bytes of length before it (RFC 7766)."""
        try:
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    message = await _read(reader)
                made = self.answer(message, over_udp=False)
                if made is None:
                    made = await self.forward(message, over_udp=False)
                if not made:
                    return
                writer.write(len(made).to_bytes(2) + made)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


async def _ask(upstream: Upstream, message: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in upstream.address else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.connect((upstream.address, upstream.port))
        await loop.sock_sendall(channel, message)
        while True:
            answer = await loop.sock_recv(channel, LONGEST_MESSAGE)
            if answer[:2] == message[:2]:
                return answer


async def _ask_over_tcp(upstream: Upstream, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
    try:
        writer.write(len(message).to_bytes(2) + message)
        return await _read(reader)
    finally:
        writer.close()
