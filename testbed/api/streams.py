"""`kubectl exec`, `attach`, `cp` and `port-forward`: WebSockets, passed on to the kubelet of the Pod's node.

What is inside is the kubelet's concern: both sides agree on a subprotocol, messages go through as they are.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from aiohttp import WSMsgType, web

from testbed.api.kubelets import Kubelets, container_of
from testbed.api.status import StatusError, bad_request, internal
from testbed.api.store import Key

_CHANNELS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
PROTOCOLS = {
    "exec": _CHANNELS,
    "attach": _CHANNELS,
    "portforward": ("SPDY/3.1+portforward.k8s.io",),
}
_KUBELETS_WORDS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}

Message = aiohttp.WSMessage
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def serve(kubelets: Kubelets, request: web.BaseRequest, key: Key, what: str) -> web.StreamResponse:
    """Answer pods/NAME/exec, attach and portforward. Raises StatusError before the connection is upgraded."""
    pod = kubelets.pod(key)
    query = request.rel_url.query
    path, words = "/".join(("portForward", *key)), []
    if what != "portforward":
        path = "/".join((what, *key, container_of(pod, query)))
        words = [("command", word) for word in query.getall("command", [])]
        words += [(word, "1") for name, word in _KUBELETS_WORDS.items() if query.get(name) in ("1", "true")]
    client = web.WebSocketResponse(protocols=PROTOCOLS[what], max_msg_size=0, compress=False)
    protocol = client.can_prepare(request).protocol
    async with kubelets.session() as session:
        try:
            if protocol is None:
                # kubectl tries the older protocol when the newer one fails, and shows what that one met.
                async with session.get(kubelets.url(pod, "healthz"), ssl=kubelets.tls):
                    raise bad_request(_refusal(what))
            kubelet = await session.ws_connect(
                kubelets.url(pod, path), params=words, ssl=kubelets.tls, protocols=[protocol], max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise StatusError(error.status, "", f"the kubelet refused: {error.message}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise internal(f"error dialing backend: {str(error) or type(error).__name__}") from None
        async with kubelet:
            await client.prepare(request)
            await _relay(client, kubelet)
    return client


def _refusal(what: str) -> str:
    known = ", ".join(PROTOCOLS[what])
    return f"you must upgrade to a WebSocket that speaks {known}: use kubectl 1.31 or newer"


async def _relay(client: web.WebSocketResponse, kubelet: aiohttp.ClientWebSocketResponse) -> None:
    """Both directions, until either side ends."""
    directions = [
        asyncio.create_task(_pass_on(client, kubelet)),
        asyncio.create_task(_pass_on(kubelet, client)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            await client.close()


async def _pass_on(source: Socket, target: Socket) -> None:
    """To the source's end. What the target takes no more is dropped: what it said last may be on its way."""
    async for message in source:
        with contextlib.suppress(ConnectionError):
            if message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
