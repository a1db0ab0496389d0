"""Probes of a container: httpGet, tcpSocket, grpc and exec, as often as its spec says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from testbed.kernel import namespaces
from testbed.kernel.sock_diag import OpenPorts

Object = dict[str, Any]
Exec = Callable[[Sequence[str], float], Awaitable[tuple[bool, str]]]
"""Runs a command in the container: `(argv, timeout in seconds) -> (whether it returned 0, its output)`."""

LISTEN = {"tcp": "0A", "udp": "07"}
"""Socket states in /proc/net: TCP_LISTEN, and for UDP TCP_CLOSE, which is "bound" (net/tcp_states.h)."""
LISTEN_EVERY, LISTEN_DEADLINE = 0.004, 5.0
"""Seconds."""
THOROUGH_EACH = 50
"""Looks of which one is at all sockets."""


async def results(probe: Object, container: Object, ip: str, run: Exec) -> AsyncIterator[tuple[bool, str]]:
    """The probe's verdict and reason, each time as many equal outcomes in a row as its threshold asks for."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    wanted = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    last, row = None, 0
    while True:
        good, why = await once(probe, container, ip, run)
        row = row + 1 if good == last else 1
        last = good
        if row >= wanted[good]:
            yield good, why
        await asyncio.sleep(probe.get("periodSeconds", 10))


async def once(probe: Object, container: Object, ip: str, run: Exec) -> tuple[bool, str]:
    """One try. What is wrong is told, never raised."""
    timeout = float(probe.get("timeoutSeconds", 1))
    try:
        async with asyncio.timeout(timeout):
            if "exec" in probe:
                return await run([str(word) for word in probe["exec"]["command"]], timeout)
            if "httpGet" in probe:
                return await _http(probe["httpGet"], container, ip)
            if "tcpSocket" in probe:
                return await _tcp(probe["tcpSocket"], container, ip)
            if "grpc" in probe:
                from testbed.node.grpc_health import check  # HTTP/2 takes 2 MB, and few ask for it

                return await check(ip, int(probe["grpc"]["port"]), probe["grpc"].get("service") or "")
    except TimeoutError:
        return False, f"no answer within {timeout:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return False, str(error) or type(error).__name__
    return True, "no handler that this node knows"


async def _tcp(action: Object, container: Object, ip: str) -> tuple[bool, str]:
    _, writer = await asyncio.open_connection(action.get("host") or ip, port_of(action["port"], container))
    writer.close()
    return True, ""


async def _http(action: Object, container: Object, ip: str) -> tuple[bool, str]:
    host, port = action.get("host") or ip, port_of(action["port"], container)
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe", "Connection": "close"}
    headers |= {each["name"]: each["value"] for each in action.get("httpHeaders") or ()}
    context = ssl._create_unverified_context() if action.get("scheme") == "HTTPS" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        lines = [f"GET {action.get('path') or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        words = (await reader.readline()).split()
        code = int(words[1]) if len(words) > 1 else 0
        return 200 <= code < 400, f"HTTP probe failed with statuscode: {code}"
    finally:
        writer.close()


def port_of(port: int | str, container: Object) -> int:
    """A port by number or by the name the container gives it. Raises ValueError."""
    if isinstance(port, int):
        return port
    for offered in container.get("ports") or ():
        if offered.get("name") == port:
            return int(offered["containerPort"])
    raise ValueError(f"the container has no port named {port!r}")


async def listening(pid: int, ips: Sequence[str], ports: Sequence[tuple[str, int]]) -> None:
    """Wait until all `ports` are open in the network namespace of `pid`, without sending it anything.

    Returns after LISTEN_DEADLINE too, and when the process ends: then the probe or the exit tells.
    `ips`: the addresses of that namespace at which they should be; now and then any other will do.
    """
    with contextlib.suppress(TimeoutError, OSError), await asyncio.to_thread(_open_ports, pid) as there:
        async with asyncio.timeout(LISTEN_DEADLINE):
            for turn in itertools.count(1):
                thorough = turn % THOROUGH_EACH == 0
                if all(
                    any(there.has(protocol, ip, port) for ip in ips)
                    or (thorough and _is_open(pid, protocol, port))
                    for protocol, port in ports
                ):
                    return
                await asyncio.sleep(LISTEN_EVERY)


def _open_ports(pid: int) -> OpenPorts:
    with namespaces.inside(f"/proc/{pid}/ns/net"):
        return OpenPorts()


def _is_open(pid: int, protocol: str, port: int) -> bool:
    wanted = f":{port:04X}"
    for family in ("", "6"):
        for line in Path(f"/proc/{pid}/net/{protocol}{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == LISTEN[protocol]:
                return True
    return False
