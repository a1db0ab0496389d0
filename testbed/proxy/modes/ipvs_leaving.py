"""Graceful termination in IPVS mode: which real servers stay a while at weight 0. Pure.

A TCP server that is no endpoint any more gets no new connections, and stays until its last one has ended.
UDP and SCTP servers go at once: their next packet then finds another server (expire_nodest_conn), which a
datagram can and a TCP connection cannot survive. Source: kubernetes pkg/proxy/ipvs/graceful_termination.go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from testbed.kernel.ipvs import Address, Front, Table, VirtualServer

ABRUPT = frozenset({"dh"})
"""Schedulers that keep choosing a server of weight 0, and so refuse new clients as long as it stays."""


def with_leaving(known: Table, wanted: Table) -> Table:
    """`wanted` with the TCP servers that only `known` has, at weight 0. Fronts without such are the same."""
    slow = dict(wanted)
    for front, server in wanted.items():
        held = known.get(front)
        if held is None or held is server or front[0] != "TCP" or server.scheduler in ABRUPT:
            continue
        leaving = {real: 0 for real in held.servers if real not in server.servers}
        if leaving:
            slow[front] = replace(server, servers={**server.servers, **leaving})
    return slow


def idle(connections: Mapping[Address, int], slow: VirtualServer, wanted: VirtualServer) -> set[Address]:
    """Those of the leaving servers of one front that have no connection."""
    return {real for real in slow.servers if real not in wanted.servers and not connections.get(real)}


def without(slow: Table, wanted: Table, gone: Mapping[Front, Collection[Address]]) -> Table:
    """`slow` without the servers in `gone`; a front that lost all its leaving servers is `wanted`'s own."""
    there = dict(slow)
    for front, reals in gone.items():
        rest = {real: weight for real, weight in slow[front].servers.items() if real not in reals}
        same = rest.keys() == wanted[front].servers.keys()
        there[front] = wanted[front] if same else replace(slow[front], servers=rest)
    return there
