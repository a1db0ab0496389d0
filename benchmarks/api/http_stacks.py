"""HTTP servers for Python, compared as the API server would use them: TLS, one process, one event loop.

python http_stacks.py [ROUNDS] [SECONDS]

Its environment: aiohttp, starlette, uvicorn[standard], granian, uvloop, orjson, cryptography, pyyaml.

The same handlers on each: a GET of 1 KiB and of 4 MiB from memory, a POST of 1 KiB, and a stream that 100
clients watch. Counted are answers for each second of the server's own CPU, so other load matters little; the
servers take turns. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from load import Connection, connect, request

from testbed.client import pki

SMALL, LARGE = b"x" * 1024, b"x" * (4 << 20)
WATCHERS, TICKS, LINES = 100, 100, 5
"""Clients of the stream; writes a second to each; lines of 1 KiB in a write."""
FLIGHT = 32
STACKS = {
    # Name: how it is started, and its event loop.
    "aiohttp": ("aiohttp", "asyncio"),
    "aiohttp, uvloop": ("aiohttp", "uvloop"),
    "starlette on uvicorn": ("uvicorn", "asyncio"),
    "starlette on uvicorn, uvloop": ("uvicorn", "uvloop"),
    "starlette on granian": ("granian", "asyncio"),
}


# -- the servers


async def ticks():
    """What a watcher is sent."""
    frame, loop = SMALL[:-1] + b"\n", asyncio.get_running_loop()
    at = loop.time()
    while True:
        yield frame * LINES
        at += 1 / TICKS
        await asyncio.sleep(max(0.0, at - loop.time()))


def starlette_app():
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def small(asked):
        return Response(SMALL)

    async def large(asked):
        return Response(LARGE)

    async def post(asked):
        return Response(await asked.body(), 201)

    async def watch(asked):
        return StreamingResponse(ticks())

    rows = (
        ("/small", small, "GET"),
        ("/large", large, "GET"),
        ("/post", post, "POST"),
        ("/watch", watch, "GET"),
    )
    return Starlette(routes=[Route(path, handler, methods=[method]) for path, handler, method in rows])


def serve_aiohttp(port, files):
    from aiohttp import web

    async def answer(asked):
        match asked.path:
            case "/small":
                return web.Response(body=SMALL)
            case "/large":
                return web.Response(body=LARGE)
            case "/post":
                return web.Response(body=await asked.read(), status=201)
        response = web.StreamResponse()
        await response.prepare(asked)
        with contextlib.suppress(ConnectionError):
            async for data in ticks():
                await response.write(data)
        return response

    async def main():
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        await asyncio.Event().wait()

    asyncio.run(main())


def serve(stack, loop, port, *files):
    port = int(port)
    if stack == "granian":
        argv = [
            "granian",
            "--interface",
            "asgi",
            "--factory",
            "--http",
            "1",
            "--log-level",
            "error",
            "--port",
            str(port),
        ]
        argv += [
            "--loop",
            loop,
            "--ssl-certificate",
            files[0],
            "--ssl-keyfile",
            files[1],
            "http_stacks:starlette_app",
        ]
        os.chdir(Path(__file__).parent)
        os.execv(Path(sys.executable).with_name("granian"), argv)
    if loop == "uvloop" and stack == "aiohttp":
        import uvloop

        uvloop.install()
    if stack == "aiohttp":
        serve_aiohttp(port, files)
    import uvicorn

    keys = {"ssl_certfile": files[0], "ssl_keyfile": files[1], "log_level": "error", "access_log": False}
    uvicorn.run(starlette_app(), port=port, loop=loop, http="httptools", **keys)


# -- the client


class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.bytes = transport, 0

    def data_received(self, data):
        self.bytes += len(data)


def cpu(pid):
    """Seconds of CPU of a process and its children."""
    rows = [Path(f"/proc/{each}/stat") for each in os.listdir("/proc") if each.isdecimal()]
    total = 0
    for row in rows:
        try:
            fields = row.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(row.parent.name), int(fields[1])):
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def ask(access, bytes, flight, seconds):
    """Ask again and again, `flight` at a time; how many answers came."""
    connections, end, count = (
        [await connect(access, Connection) for _ in range(flight)],
        time.monotonic() + seconds,
        0,
    )

    async def work(connection):
        nonlocal count
        while time.monotonic() < end:
            await connection.ask(bytes)
            count += 1
        connection.transport.abort()

    await asyncio.gather(*map(work, connections))
    return count


async def watch(access, seconds):
    """How many lines came to all watchers."""
    sinks = [await connect(access, Sink) for _ in range(WATCHERS)]
    for each in sinks:
        each.transport.write(request("GET", "/watch"))
    await asyncio.sleep(seconds)
    for each in sinks:
        each.transport.abort()
    return sum(each.bytes for each in sinks) // len(SMALL)


WORKS = {
    "GET of 1 KiB": lambda access, seconds: ask(access, request("GET", "/small"), FLIGHT, seconds),
    "GET of 4 MiB": lambda access, seconds: ask(access, request("GET", "/large"), 2, seconds),
    "POST of 1 KiB": lambda access, seconds: ask(
        access, request("POST", "/post", "x" * 1022), FLIGHT, seconds
    ),
    "lines to 100 watchers": watch,
}


def started(name, files, trust):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "serve", *STACKS[name], str(port), *files])
    while True:
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/small", context=trust, timeout=5):
                return process, port
        except OSError:
            assert process.poll() is None, name
            time.sleep(0.1)


def main(rounds=3, seconds=2.0):
    with tempfile.TemporaryDirectory() as scratch:
        authority = pki.ensure_authority(Path(scratch))
        files = [*map(str, pki.issue_server(authority, "x", ["127.0.0.1"]).write(Path(scratch), "server"))]
        trust = ssl.create_default_context(cafile=f"{scratch}/ca.crt")
        servers = {name: started(name, files, trust) for name in STACKS}
        seen = {(work, name): [] for work in WORKS for name in STACKS}
        try:
            for _ in range(rounds):
                for work, run in WORKS.items():
                    for name, (process, port) in servers.items():
                        access = SimpleNamespace(server=f"https://127.0.0.1:{port}", tls=trust)
                        before = cpu(process.pid)
                        count = asyncio.run(run(access, seconds))
                        seen[work, name].append(count / max(0.01, cpu(process.pid) - before))
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait()
    print("| answers for each second of CPU |", " | ".join(STACKS), "|")
    print("|---" + "|---:" * len(STACKS) + "|")
    for work in WORKS:
        cells = [f"{statistics.median(seen[work, name]):,.0f}" for name in STACKS]
        print(f"| {work} |", " | ".join(cells), "|")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        given = dict(zip(("rounds", "seconds"), map(int, sys.argv[1:]), strict=False))
    main(**given)
