"""Connections that stay open, and other small talk, in the namespace that this process is in."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from contextlib import suppress

from testbed.packets.patience import patience

SECONDS = 4.0
"""How long anything may take."""

_OPEN: dict[int, socket.socket] = {}
_NUMBERS = itertools.count()


def connect(to: str, port: int) -> tuple[int, tuple[str, int]]:
    """Open a TCP connection: its number, and its own address and port. `speak` tells if it came to be."""
    line = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_STREAM)
    line.settimeout(patience(SECONDS))
    with suppress(OSError):
        line.connect((to, port))
    number = next(_NUMBERS)
    _OPEN[number] = line
    address, own = line.getsockname()[:2]
    return number, (address, own)


def speak(number: int) -> str:
    """Say a line to an echo server: what comes back, in a word."""
    line = _OPEN[number]
    try:
        line.sendall(b"still there?\n")
        told = line.recv(65535)
        return "answered" if told and json.loads(told) else "closed"
    except TimeoutError:
        return "silence"
    except (OSError, ValueError):
        return "closed"


def hang_up(number: int) -> None:
    with suppress(OSError):
        _OPEN.pop(number).close()


def send(packet: bytes, to: str) -> None:
    """Send an IP packet as it is."""
    kind = socket.AF_INET if packet[0] >> 4 == 4 else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (to, 0))


def status(address: str, port: int, path: str = "/") -> int:
    """The status that an HTTP server answers with; 0: nobody listens, or what speaks there is no HTTP."""
    connection = http.client.HTTPConnection(address, port, timeout=patience(SECONDS))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
