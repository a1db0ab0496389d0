"""`kubectl port-forward`: connections to ports of a Pod, through a SPDY session inside WebSocket messages.

Each connection is a pair of streams with one `requestid`: bytes on one, a complaint on the other
(k8s.io/kubelet pkg/cri/streaming/portforward/httpstream.go).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from testbed.node.spdy import CHUNK, ProtocolError, Session, Stream

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
Open = Callable[[], Awaitable[socket.socket]]
"""A fresh TCP socket in the Pod's network."""

CONNECT_SECONDS = 5.0


class Forward:
    """The connections of one client."""

    def __init__(self, websocket: web.WebSocketResponse, open_socket: Open, pod: str) -> None:
        self._websocket, self._open, self._pod = websocket, open_socket, pod
        self._session = Session(websocket.send_bytes, self._opened)
        self._waiting: dict[str, dict[str, Stream]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client is gone."""
        try:
            async for message in self._websocket:
                if message.type is WSMsgType.BINARY:
                    await self._session.feed(message.data)
        except (ProtocolError, ConnectionError):
            pass
        finally:
            self._session.end()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _opened(self, stream: Stream) -> None:
        request = stream.headers.get("requestid", "")
        pair = self._waiting.setdefault(request, {})
        pair[stream.headers.get("streamtype", "")] = stream
        if {"data", "error"} <= set(pair):
            del self._waiting[request]
            task = asyncio.create_task(self._connection(pair["data"], pair["error"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, data: Stream, error: Stream) -> None:
        port = data.headers.get("port", "")
        try:
            with contextlib.suppress(ConnectionError):
                try:
                    await self._relay(data, int(port))
                except (OSError, ValueError, TimeoutError) as trouble:
                    number = getattr(trouble, "errno", None)
                    why = os.strerror(number) if number else str(trouble) or "no answer"
                    why = f"connect to 127.0.0.1:{port}: {why}"
                    await error.write(f"error forwarding port {port} to pod {self._pod}: {why}".encode())
                await data.close()
                await error.close()
        finally:
            self._session.forget(data)
            self._session.forget(error)

    async def _relay(self, data: Stream, port: int) -> None:
        channel = await self._open()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(channel, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=channel)
        except BaseException:
            channel.close()
            raise
        upward = asyncio.create_task(_upward(data, writer))
        try:
            while chunk := await reader.read(CHUNK):
                await data.write(chunk)
        finally:
            upward.cancel()
            writer.close()


async def _upward(data: Stream, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await data.incoming.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
