"""The program of image agnhost, as far as tests of Services and Pods use it.

Its answers are those of kubernetes test/images/agnhost, which the upstream e2e tests read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast

from aiohttp import ClientError, ClientSession, ClientTimeout, web

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt of /dial."""
HEALTHY = 10.0
"""Seconds for which `liveness` is well."""
MAPPED = "::ffff:"


def _plain(host: str) -> str:
    return host.removeprefix(MAPPED)


async def netexec(http_port: int, udp_port: int, message: str = "") -> None:
    """The server of the network tests: HTTP, and the same questions over UDP where that port is not -1."""
    app = web.Application()
    stopped = asyncio.Event()
    started = datetime.now(UTC)

    async def root(_: web.Request) -> web.Response:
        return web.Response(text=message or f"NOW: {datetime.now(UTC).isoformat()}")

    async def hostname(_: web.Request) -> web.Response:
        return web.Response(text=socket.gethostname())

    async def client_ip(request: web.Request) -> web.Response:
        host, port = request.transport.get_extra_info("peername")[:2] if request.transport else ("", 0)
        host = _plain(host)
        return web.Response(text=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    async def echo(request: web.Request) -> web.Response:
        code = int(request.query.get("code") or 200)
        return web.Response(text=request.query.get("msg", ""), status=code)

    async def header(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get(request.query.get("key", ""), ""))

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def started_at(_: web.Request) -> web.Response:
        return web.Response(text=f"{(datetime.now(UTC) - started).total_seconds()}s")

    async def shell(request: web.Request) -> web.Response:
        command = request.query.get("shellCommand") or request.query.get("cmd", "")
        process = await asyncio.create_subprocess_shell(
            command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        answer = {"output": out.decode(errors="replace")}
        if process.returncode:
            answer["error"] = f"exit status {process.returncode}"
        return web.json_response(answer)

    async def leave(request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(float(request.query.get("wait", "0s").rstrip("s")), stopped.set)
        return web.Response(text="")

    for path, handler in {
        "/": root,
        "/hostname": hostname,
        "/hostName": hostname,
        "/clientip": client_ip,
        "/echo": echo,
        "/header": header,
        "/healthz": healthz,
        "/readyz": healthz,
        "/startedAt": started_at,
        "/shell": shell,
        "/dial": _dial,
        "/exit": leave,
    }.items():
        app.router.add_route("*", path, handler)
    await _serve(app, http_port)
    if udp_port > 0:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("", udp_port))
        await asyncio.get_running_loop().create_datagram_endpoint(_Questions, sock=sock)
    await _until_told(stopped)


class _Questions(asyncio.DatagramProtocol):
    """netexec over UDP: `hostname`, `clientip`, `echo TEXT`; anything else is answered with nothing in it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        word, _, rest = data.decode(errors="replace").strip().partition(" ")
        host = _plain(peer[0])
        known: dict[str, Callable[[], str]] = {
            "hostname": socket.gethostname,
            "clientip": lambda: f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}",
            "echo": lambda: rest,
        }
        self._transport.sendto(known.get(word.lower(), lambda: "")().encode(), peer)


async def _dial(request: web.Request) -> web.Response:
    """Ask another netexec `tries` times, by `protocol` http or udp, and tell what it said."""
    query = request.query
    protocol, tries = query.get("protocol", "http"), int(query.get("tries") or 1)
    if protocol not in DIALERS:
        return web.Response(text=f"unsupported protocol: {protocol}", status=400)
    responses, errors = [], []
    for _ in range(tries):
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                ask = query.get("request", "hostname")
                responses.append(await DIALERS[protocol](query["host"], int(query["port"]), ask))
        except (OSError, ClientError, TimeoutError) as error:
            errors.append(str(error) or type(error).__name__)
    return web.json_response({"responses": responses} | ({"errors": errors} if errors else {}))


async def _dial_http(host: str, port: int, request: str) -> str:
    where = f"[{host}]" if ":" in host else host
    url = f"http://{where}:{port}/{request}"
    async with ClientSession(timeout=ClientTimeout(DIAL_TIMEOUT)) as session, session.get(url) as answer:
        return await answer.text()


async def _dial_udp(host: str, port: int, request: str) -> str:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
        await loop.sock_sendall(sock, request.encode())
        return (await loop.sock_recv(sock, 4096)).decode(errors="replace")


DIALERS: dict[str, Callable[[str, int, str], Awaitable[str]]] = {"http": _dial_http, "udp": _dial_udp}


async def serve_hostname(port: int) -> None:
    """The host's name to whoever asks."""

    async def hostname(_: web.Request) -> web.Response:
        return web.Response(text=socket.gethostname())

    app = web.Application()
    app.router.add_get("/{path:.*}", hostname)
    await _serve(app, port)
    await _until_told(asyncio.Event())


async def test_webserver(port: int) -> None:
    """The files of this machine to whoever asks."""
    app = web.Application()
    app.router.add_static("/", "/", show_index=True, follow_symlinks=True)
    await _serve(app, port)
    await _until_told(asyncio.Event())


async def liveness(port: int) -> None:
    """A server that is well for some seconds and from then on says, at /healthz, that it is not."""
    app = web.Application()
    began = time.monotonic()

    async def started(_: web.Request) -> web.Response:
        return web.Response(text=f"{time.monotonic() - began}s")

    async def healthz(_: web.Request) -> web.Response:
        lived = time.monotonic() - began
        return (
            web.Response(text="ok") if lived <= HEALTHY else web.Response(text=f"error: {lived}", status=500)
        )

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query.get("loc", "/"))

    app.add_routes(
        [web.get("/started", started), web.get("/healthz", healthz), web.get("/redirect", redirect)]
    )
    await _serve(app, port)
    await _until_told(asyncio.Event())


async def pause() -> None:
    """Nothing, until it is told to end."""
    await _until_told(asyncio.Event())


async def connect(target: str, timeout: float, protocol: str) -> int:
    """Try to reach `HOST:PORT`: TIMEOUT, REFUSED, DNS or OTHER on stderr and 1, or nothing and 0."""
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(timeout):
            if protocol == "udp":
                await _dial_udp(host.strip("[]"), int(port), "hostname")
            else:
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.close()
        return 0
    except socket.gaierror:
        told = "DNS"
    except TimeoutError:
        told = "TIMEOUT"
    except ConnectionRefusedError:
        told = "REFUSED"
    except (OSError, ValueError) as error:
        told = f"OTHER: {error}"
    print(told, file=sys.stderr)
    return 1


async def porter() -> None:
    """A server at each port that a variable SERVE_PORT_N names, answering with the variable's value."""
    for name, value in os.environ.items():
        number = name.removeprefix("SERVE_PORT_")
        if number != name and number.isdigit():
            app = web.Application()
            app.router.add_get("/{path:.*}", _saying(value))
            await _serve(app, int(number))
    await _until_told(asyncio.Event())


def _saying(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def say(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return say


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    bound = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    await web.SockSite(runner, bound).start()


async def _until_told(stopped: asyncio.Event) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with contextlib.suppress(asyncio.CancelledError):
        await stopped.wait()
