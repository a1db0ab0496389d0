"""HAProxy's configuration for the TCP listeners of userspace mode. Pure.

Sockets are inherited (`fd@N`): they are the agent's, so a reload loses no connection and needs no port twice.
Source of the directives: HAProxy 2.6 Configuration Manual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from testbed.proxy.dataplane.balance import Address

HEAD = """\
global
  nbthread 1
  stats socket fd@{admin} level admin
  stats timeout 1m
defaults
  mode tcp
  balance roundrobin
  timeout connect 1s
  timeout client 24d
  timeout server 24d
  retries 3
  option redispatch 1
  option splice-auto
  option clitcpka
  option srvtcpka
"""
"""One thread: a node of a testbed is one of many on the machine. 24 days: HAProxy knows no "for ever"."""


@dataclass(frozen=True)
class Section:
    """A proxy with an inherited socket."""

    name: str
    fd: int
    servers: tuple[Address, ...] = ()


def text(sections: Iterable[Section], admin: int) -> str:
    """The whole configuration. `admin`: descriptor of the socket for run-time commands."""
    lines = [HEAD.format(admin=admin).rstrip()]
    for section in sections:
        lines += [f"listen {section.name}", f"  bind fd@{section.fd}"]
        lines += [f"  server {server(one)} {place(one)}" for one in section.servers]
    return "\n".join([*lines, ""])


def server(address: Address) -> str:
    """The name of a server tells its address; brackets are not allowed in it."""
    return f"{address[0]}:{address[1]}"


def place(address: Address) -> str:
    ip, port = address
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
