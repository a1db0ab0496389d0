"""What the agent tells the data plane, and its answer: pickles over a socket pair, lengths before them."""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from testbed.proxy.dataplane.balance import Address


class Key(NamedTuple):
    """What a listener is for. `route`: "cluster" or "local". `sticky`: its clients have affinity."""

    service_port: str
    protocol: str
    route: str = "cluster"
    sticky: bool = False


@dataclass(frozen=True)
class Listener:
    """A port to listen on, and where to. `affinity` in seconds."""

    endpoints: tuple[Address, ...]
    affinity: float = 0.0


@dataclass(frozen=True)
class Change:
    """Listeners to make or change, and those to close."""

    serve: dict[Key, Listener] = field(default_factory=dict)
    close: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Done:
    """The ports of the listeners that were served, and an error text for each that could not be."""

    ports: dict[Key, int]
    errors: dict[Key, str]


def send(channel: socket.socket, message: Change | Done) -> None:
    data = pickle.dumps(message)
    channel.sendall(struct.pack("!I", len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """The next message. Raises EOFError when the other side has gone."""
    (length,) = struct.unpack("!I", _exactly(channel, 4))
    return pickle.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = channel.recv(length - len(data))
        if not part:
            raise EOFError("the other side has gone")
        data += part
    return bytes(data)
