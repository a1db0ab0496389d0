"""SPDY as a port-forwarding client speaks it: frames cut anywhere, junk refused."""

from __future__ import annotations

import asyncio
import struct
import zlib

import pytest

from testbed.node import spdy
from testbed.node.spdy import FIN, ProtocolError, Session, Stream


class Client:
    """The other side: what a session sent, and frames to feed it."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.streams: list[Stream] = []
        self.session = Session(self._take, self.streams.append)
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)

    async def _take(self, data: bytes) -> None:
        self.sent += data

    def syn(self, id: int, headers: dict[str, str], flags: int = 0) -> bytes:
        block = struct.pack(">I", len(headers))
        for word in (word for pair in headers.items() for word in pair):
            block += struct.pack(">I", len(word)) + word.encode()
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(spdy.SYN_STREAM, struct.pack(">IIH", id, 0, 0) + packed, flags)


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", 0x80030000 | kind, flags << 24 | len(payload)) + payload


def data(id: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", id, flags << 24 | len(payload)) + payload


def test_the_dictionary_is_the_one_of_the_draft() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_streams_arrive_in_pieces_of_any_size(size: int) -> None:
    async def scene() -> None:
        client = Client()
        told = client.syn(1, {"streamtype": "error", "port": "80"}, FIN)
        told += client.syn(3, {"streamtype": "data", "port": "80"}) + data(3, b"one ") + data(3, b"two", FIN)
        for start in range(0, len(told), size):
            await client.session.feed(told[start : start + size])
        error, stream = client.streams
        assert error.headers == {"streamtype": "error", "port": "80"}
        assert await error.incoming.read() == b""
        assert await stream.incoming.read() == b"one two"
        replies = [client.sent[3], client.sent[client.sent.index(b"\x80\x03", 4) + 3]]
        assert replies == [spdy.SYN_REPLY, spdy.SYN_REPLY]
        client.sent.clear()
        await stream.write(b"answer")
        await stream.close()
        await stream.close()
        assert client.sent == data(3, b"answer") + data(3, b"", FIN)

    asyncio.run(scene())


def test_a_ping_comes_back() -> None:
    async def scene() -> None:
        client = Client()
        await client.session.feed(control(spdy.PING, b"\0\0\0\7"))
        assert client.sent == control(spdy.PING, b"\0\0\0\7")

    asyncio.run(scene())


def test_the_end_of_the_connection_ends_every_stream() -> None:
    async def scene() -> None:
        client = Client()
        await client.session.feed(client.syn(1, {}))
        client.session.end()
        assert await client.streams[0].incoming.read() == b""

    asyncio.run(scene())


@pytest.mark.parametrize(
    "junk",
    [
        control(spdy.SYN_STREAM, b"\0\0\0\1" + b"\0" * 6 + b"not deflated"),
        control(spdy.SYN_STREAM, b"\0\0"),
        control(spdy.SYN_STREAM, b"\0\0\0\2" + b"\0" * 20),
        control(spdy.RST_STREAM, b""),
        struct.pack(">II", 1, 0xFFFFFF),
    ],
)
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        asyncio.run(Client().session.feed(junk))
