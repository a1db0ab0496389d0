"""SPDY/3.1, as far as port forwarding speaks it: streams of bytes in both directions over one connection.

kubectl tunnels it through WebSocket messages. Neither side of Kubernetes uses its windows, priorities or
server push, so there are none here. Source: SPDY Protocol, Draft 3.1; github.com/moby/spdystream.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 0x01
CANCEL = 5
CHUNK = 1 << 15
"""Bytes in a data frame that we send."""
LONGEST_FRAME = 1 << 20

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version "
    "HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(name)) + name.replace("_", " ").encode() for name in _NAMES.split(" "))
    + _TEXT.encode()
)
"""What header blocks are compressed against (section 2.6.10.1)."""


class ProtocolError(Exception):
    """The peer sent something that is not SPDY/3.1."""


class Stream:
    """One stream. Read `incoming` to its end; `write` and `close` the other direction."""

    def __init__(self, session: Session, id: int, headers: Mapping[str, str]) -> None:
        self.id, self.headers = id, headers
        self.incoming = asyncio.StreamReader()
        self._session = session
        self._closed = False

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            await self._session.send_data(self.id, data[start : start + CHUNK])

    async def close(self) -> None:
        """No more will be written."""
        if not self._closed:
            self._closed = True
            await self._session.send_data(self.id, b"", FIN)

    async def reset(self) -> None:
        self._closed = True
        await self._session.send_control(RST_STREAM, struct.pack(">II", self.id, CANCEL))


class Session:
    """The server's side. `send` takes bytes for the peer, `opened` is told of each stream the peer opens."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], opened: Callable[[Stream], None]) -> None:
        self._send, self._opened = send, opened
        self._streams: dict[int, Stream] = {}
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    async def feed(self, data: bytes) -> None:
        """Take bytes from the peer, cut anywhere. Raises ProtocolError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            head, flags_length = struct.unpack_from(">II", self._buffer)
            flags, length = flags_length >> 24, flags_length & 0xFFFFFF
            if length > LONGEST_FRAME:
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                return
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            if head >> 31:
                await self._control(head & 0xFFFF, flags, payload)
            else:
                self._data(head, flags, payload)

    def end(self) -> None:
        """The connection is gone: so is every stream."""
        for stream in self._streams.values():
            stream.incoming.feed_eof()

    async def _control(self, kind: int, flags: int, payload: bytes) -> None:
        try:
            if kind == SYN_STREAM:
                await self._syn(flags, payload)
            elif kind == PING:
                await self.send_control(PING, payload)
            elif kind == RST_STREAM:
                self._finish(struct.unpack_from(">I", payload)[0])
            elif kind == GOAWAY:
                self.end()
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise ProtocolError(f"a malformed frame of type {kind}: {error}") from None

    async def _syn(self, flags: int, payload: bytes) -> None:
        (id,) = struct.unpack_from(">I", payload)
        if id in self._streams or id % 2 == 0:
            raise ProtocolError(f"stream {id} cannot be opened")
        stream = Stream(self, id, _headers(self._inflate.decompress(payload[10:], LONGEST_FRAME)))
        self._streams[id] = stream
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.send_control(SYN_REPLY, struct.pack(">I", id) + block)
        if flags & FIN:
            self._finish(id)
        self._opened(stream)

    def _data(self, id: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return  # data on its way when the stream was reset
        if payload:
            stream.incoming.feed_data(payload)
        if flags & FIN:
            self._finish(id)

    def _finish(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is not None:
            stream.incoming.feed_eof()

    def forget(self, stream: Stream) -> None:
        """Both directions are done."""
        self._streams.pop(stream.id, None)

    async def send_data(self, id: int, data: bytes, flags: int = 0) -> None:
        await self._send(struct.pack(">II", id, flags << 24 | len(data)) + data)

    async def send_control(self, kind: int, payload: bytes, flags: int = 0) -> None:
        await self._send(struct.pack(">II", 0x80030000 | kind, flags << 24 | len(payload)) + payload)


def _headers(block: bytes) -> dict[str, str]:
    """A name/value block: a count, then names and values, each behind its length."""
    (count,), at = struct.unpack_from(">I", block), 4
    words = []
    for _ in range(2 * min(count, 1000)):
        (length,) = struct.unpack_from(">I", block, at)
        words.append(block[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return dict(zip(words[::2], words[1::2], strict=True))
