from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from testbed.dns import wire
from testbed.dns.process import listen
from testbed.dns.server import Server, Upstream
from testbed.dns.zone import Zone
from testbed.errors import UsageError

NAME = "many.default.svc.cluster.local"


def message(name: str, kind: int = wire.A) -> bytes:
    head = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"
    return head + wire.name_bytes(name) + kind.to_bytes(2) + b"\0\x01"


def flags(answer: bytes) -> int:
    return int.from_bytes(answer[2:4])


def counts(answer: bytes) -> list[int]:
    return [int.from_bytes(answer[at : at + 2]) for at in (6, 8, 10)]


def zone(addresses: int = 1) -> Zone:
    made = Zone("cluster.local")
    made.put("default/many", [wire.address(NAME, f"10.244.{n // 250}.{n % 250}") for n in range(addresses)])
    return made


async def ask(port: int, text: bytes, udp: bool = True) -> bytes:
    if not udp:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(len(text).to_bytes(2) + text)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        writer.close()
        return answer
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.connect(("127.0.0.1", port))
        await loop.sock_sendall(channel, text)
        async with asyncio.timeout(5):
            return await loop.sock_recv(channel, 65535)


def served(server: Server, conversation: Callable[[int], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        bound, tcp = await listen(server, "127.0.0.1", 0)
        try:
            return await conversation(bound.getsockname()[1])
        finally:
            asyncio.get_running_loop().remove_reader(bound)
            bound.close()
            tcp.close()
            await tcp.wait_closed()

    return asyncio.run(whole())


@pytest.mark.feature("A20")
def test_an_answer_too_long_for_a_datagram_is_cut_and_whole_over_tcp() -> None:
    async def both(port: int) -> tuple[bytes, bytes]:
        return await ask(port, message(NAME)), await ask(port, message(NAME), udp=False)

    short, whole = served(Server(zone(200)), both)
    assert (flags(short) & wire.TRUNCATED, counts(short), len(short) <= 512) == (
        wire.TRUNCATED,
        [0, 0, 0],
        True,
    )
    assert (flags(whole) & wire.TRUNCATED, counts(whole)[0]) == (0, 200)


@pytest.mark.feature("A20")
def test_other_names_are_refused_or_passed_on() -> None:
    other = Zone("example.com")
    other.put("x", [wire.address("www.example.com", "192.0.2.1")])

    async def chain(upstream: int) -> list[bytes]:
        server = Server(zone(), [Upstream("example.com", "127.0.0.1", upstream), Upstream("org", "::1", 1)])
        bound, tcp = await listen(server, "127.0.0.1", 0)
        port = bound.getsockname()[1]
        answers = [
            await ask(port, message("www.example.com")),
            await ask(port, message("www.example.com"), udp=False),
            await ask(port, message("x.org")),
            await ask(port, message("other.net")),
        ]
        asyncio.get_running_loop().remove_reader(bound)
        bound.close()
        tcp.close()
        return answers

    answers = served(Server(other), chain)
    codes = [flags(each) & 15 for each in answers]
    assert codes == [wire.NOERROR, wire.NOERROR, wire.SERVFAIL, wire.REFUSED]
    assert [answers[at][-4:] for at in (0, 1)] == [bytes((192, 0, 2, 1))] * 2


@pytest.mark.feature("A7", "A20")
def test_an_alias_for_a_name_elsewhere_is_followed_there() -> None:
    other = Zone("example.com")
    other.put("x", [wire.address("www.example.com", "192.0.2.1")])
    here = zone()
    here.put("y", [wire.pointer("out.default.svc.cluster.local", wire.CNAME, "www.example.com")])
    here.put("z", [wire.pointer("lost.default.svc.cluster.local", wire.CNAME, "www.example.org")])

    async def chain(upstream: int) -> list[bytes]:
        server = Server(here, [Upstream("example.com", "127.0.0.1", upstream)])
        bound, tcp = await listen(server, "127.0.0.1", 0)
        port = bound.getsockname()[1]
        names = ("out.default.svc.cluster.local", "lost.default.svc.cluster.local")
        answers = [await ask(port, message(name), udp) for name in names for udp in (True, False)]
        asyncio.get_running_loop().remove_reader(bound)
        bound.close()
        tcp.close()
        return answers

    for answer in served(Server(other), chain)[:2]:
        rcode, records = wire.read_answer(answer)
        assert rcode == wire.NOERROR
        assert [(each.name, each.type) for each in records] == [
            ("out.default.svc.cluster.local", wire.CNAME),
            ("www.example.com", wire.A),
        ]
    rcode, records = wire.read_answer(served(Server(other), chain)[2])
    assert (rcode, [each.type for each in records]) == (wire.NOERROR, [wire.CNAME]), "nobody to ask"


def test_names_in_answers_may_point_back() -> None:
    query = wire.parse(message(NAME))
    made = wire.answer(query, wire.NOERROR, ([wire.address(NAME, "192.0.2.1")], (), ()))
    assert b"\xc0\x0c" in made
    assert wire.read_answer(made) == (wire.NOERROR, [wire.address(NAME, "192.0.2.1")])
    loop = made.replace(b"\xc0\x0c\0\x01", bytes((0xC0, made.index(b"\xc0\x0c"), 0, 1)))
    assert wire.read_answer(loop) == (wire.SERVFAIL, [])
    for cut in range(len(made)):
        wire.read_answer(made[:cut])


def test_a_change_is_seen_by_the_next_question() -> None:
    served_zone = zone()
    server = Server(served_zone)
    assert flags(server.answer(message(NAME)) or b"") & 15 == wire.NOERROR
    served_zone.put("default/many", ())
    gone = server.answer(message(NAME)) or b""
    assert (flags(gone) & 15, counts(gone)) == (wire.NXDOMAIN, [0, 1, 0])
    assert server.answer(message(NAME)) == gone


def test_noise_is_met_with_silence() -> None:
    server = Server(zone())
    assert server.answer(b"\0") == b""
    assert flags(server.answer(message(NAME)[:20]) or b"") & 15 == wire.FORMERR


@pytest.mark.feature("A20")
def test_ten_thousand_questions_a_second() -> None:
    server, asked = Server(zone()), [message(NAME), message(f"gone.{NAME}"), message(NAME, wire.AAAA)]
    started = time.process_time()
    for number in range(9000):
        assert server.answer(asked[number % 3])
    assert time.process_time() - started < 0.5, "the answers alone must leave time for the sockets"


@pytest.mark.parametrize("text", ["x", "a=b", "1.2.3.4:y", "a=1.2.3.4.5"])
def test_a_wrong_upstream_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--forward"):
        Upstream.parse(text)


def test_upstreams_are_read() -> None:
    assert Upstream.parse("Corp.=192.0.2.1:5353") == Upstream("corp", "192.0.2.1", 5353)
    assert Upstream.parse("::1") == Upstream("", "::1", 53)


def test_a_port_in_use_is_said() -> None:
    async def again(port: int) -> None:
        await listen(Server(zone()), "127.0.0.1", port)

    with pytest.raises(UsageError, match="cannot listen"):
        served(Server(zone()), again)
