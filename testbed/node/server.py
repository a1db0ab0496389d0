"""The node agent's HTTPS port 10250: container logs for `kubectl logs`, and health."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from testbed.node.launch import log_file
from testbed.node.pod import PodWorker

Object = dict[str, Any]
Find = Callable[[str, str], PodWorker | None]
"""The worker of a Pod by namespace and name."""

FOLLOW_EVERY = 0.1
"""Seconds between looks at a log that is followed."""
CHUNK = 1 << 16


def application(find: Find) -> web.Application:
    """The routes. They have the kubelet's own paths, so that any API server can proxy to them."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def logs(request: web.Request) -> web.StreamResponse:
        place = request.match_info
        worker = find(place["namespace"], place["pod"])
        known = (
            next((each for each in worker.containers if each.name == place["container"]), None)
            if worker
            else None
        )
        if worker is None or known is None:
            raise web.HTTPNotFound(text=f"no container {place['container']} in pod {place['pod']} here\n")
        query = request.query
        attempt = known.attempt - (query.get("previous") == "true")
        file = log_file(worker.pod, known.name, attempt)
        if attempt < 0 or not file.exists():
            raise web.HTTPBadRequest(text=f'container "{known.name}" has no such log yet\n')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow = query.get("follow") == "true"
        await _send(response, file, query.get("tailLines"), lambda: follow and known.running)
        return response

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    return app


async def _send(response: web.StreamResponse, file: Path, tail: str | None, more: Callable[[], bool]) -> None:
    with file.open("rb") as log:
        if tail is not None and tail.isdigit():
            log.seek(tail_offset(file, int(tail)))
        while True:
            going_on = more()
            while chunk := log.read(CHUNK):
                await response.write(chunk)
            if not going_on:
                return
            await asyncio.sleep(FOLLOW_EVERY)


def tail_offset(file: Path, lines: int) -> int:
    """The byte at which the last `lines` lines begin; reads from the end, a log may be large."""
    with file.open("rb") as log:
        end = position = log.seek(0, 2)
        wanted, found = lines + 1, 0
        while position > 0 and lines:
            size = min(CHUNK, position)
            position -= size
            log.seek(position)
            chunk = log.read(size)
            if position + size == end and not chunk.endswith(b"\n"):
                found += 1  # the last line is not finished, and counts
            at = size
            while (at := chunk.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found == wanted:
                    return position + at + 1
        return 0 if lines else end


async def serve(app: web.Application, address: str, port: int, certificate: str, key: str, ca: str) -> None:
    """Serve until cancelled. A client must show a certificate of `ca`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port, ssl_context=context).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
