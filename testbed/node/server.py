"""The node agent's HTTPS port 10250: logs, commands and ports of Pods, for the API server; and health."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from testbed.node import execute, forward
from testbed.node.logs import log_file, read
from testbed.node.pod import PodWorker
from testbed.node.status import Container

Object = dict[str, Any]
Find = Callable[[str, str], PodWorker | None]
"""The worker of a Pod by namespace and name."""

ADMINISTRATORS = "system:masters"
"""The group (organisation of the certificate) that may use this port; the API server is in it."""


def application(find: Find) -> web.Application:
    """The routes. They have the kubelet's own paths, so that any API server can proxy to them."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def logs(request: web.Request) -> web.StreamResponse:
        worker, known = container_of(request)
        query = request.query
        attempt = known.attempt - (query.get("previous") == "true")
        file = log_file(worker.pod, known.name, attempt)
        if attempt < 0 or not file.exists():
            raise web.HTTPBadRequest(text=f'container "{known.name}" has no such log yet\n')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow = query.get("follow") == "true"
        lines = query.get("tailLines", "")
        tail = int(lines) if lines.isdigit() else None
        async for chunk in read(file, tail, lambda: follow and known.running):
            await response.write(chunk)
        return response

    async def run_command(request: web.Request) -> web.StreamResponse:
        worker, known = container_of(request)
        words = request.query.getall("command", [])
        if not known.running or not words:
            told = f"container {known.name} is not running, or there is no command\n"
            raise web.HTTPBadRequest(text=told)
        wanted = {name for name in ("input", "tty") if request.query.get(name) in ("1", "true")}
        process = await execute.command(worker, known, words, tty="tty" in wanted)
        websocket = await _upgraded(request, execute.PROTOCOLS)
        await execute.execute(websocket, process, worker.node.runtime.run_on, stdin="input" in wanted)
        return websocket

    async def attach(request: web.Request) -> web.StreamResponse:
        worker, known = container_of(request)
        if not known.running or not known.process:
            raise web.HTTPBadRequest(text=f"container {known.name} is not running\n")
        console = worker.node.consoles.get(known.process.id)
        if console and console.tty:
            printed = console.printed()
        else:
            printed = read(log_file(worker.pod, known.name, known.attempt), 0, lambda: known.running)
        websocket = await _upgraded(request, execute.PROTOCOLS)
        types = request.query.get("input") in ("1", "true")
        await execute.attach(websocket, console if types else None, printed)
        return websocket

    async def port_forward(request: web.Request) -> web.StreamResponse:
        worker = pod_of(request)
        sandboxes = worker.node.sandboxes
        attached = sandboxes.attached(worker.uid)
        if attached is None:
            raise web.HTTPBadRequest(text="the pod has no network yet\n")
        netns = attached.netns
        websocket = await _upgraded(request, (forward.PROTOCOL,))
        forwarding = forward.Forward(
            websocket, lambda: sandboxes.open_socket(netns), request.match_info["pod"]
        )
        await forwarding.run()
        return websocket

    def pod_of(request: web.Request) -> PodWorker:
        place = request.match_info
        worker = find(place["namespace"], place["pod"])
        if worker is None:
            raise web.HTTPNotFound(text=f"no pod {place['pod']} here\n")
        return worker

    def container_of(request: web.Request) -> tuple[PodWorker, Container]:
        worker, name = pod_of(request), request.match_info["container"]
        for each in worker.containers:
            if each.name == name:
                return worker, each
        raise web.HTTPNotFound(text=f"no container {name} in pod {request.match_info['pod']} here\n")

    app = web.Application(middlewares=[_administrators_only])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/exec/{namespace}/{pod}/{container}", run_command)
    app.router.add_get("/attach/{namespace}/{pod}/{container}", attach)
    app.router.add_get("/portForward/{namespace}/{pod}", port_forward)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    return app


@web.middleware
async def _administrators_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every component has a certificate of the same authority; to run commands takes more."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    names = [field for part in (certificate or {}).get("subject") or () for field in part]
    if certificate is not None and ("organizationName", ADMINISTRATORS) not in names:
        raise web.HTTPForbidden(text="only the API server may do this\n")
    return await handler(request)


async def _upgraded(request: web.Request, protocols: Sequence[str]) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(protocols=protocols, max_msg_size=0, compress=False)
    if not websocket.can_prepare(request) or not websocket.can_prepare(request).protocol:
        raise web.HTTPBadRequest(text=f"this needs a WebSocket that speaks {' or '.join(protocols)}\n")
    await websocket.prepare(request)
    return websocket


async def serve(
    app: web.Application, addresses: Sequence[str], port: int, certificate: str, key: str, ca: str
) -> None:
    """Serve until cancelled. A client must show a certificate of `ca`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        for address in addresses:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
