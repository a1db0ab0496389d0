"""The rules of each mode, whole, in golden/. TESTBED_UPDATE_GOLDEN=1 writes them anew: read the diff."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ipv6_twin
import pytest
from service_cases import NODE, OPTIONS, SNAPSHOT

from testbed.kernel.nft import creation, text
from testbed.kernel.ruleset import Wanted
from testbed.model.families import bracketed
from testbed.model.service import Endpoint, Snapshot
from testbed.model.topology import IPVS_SCHEDULERS
from testbed.proxy.modes.iptables import Iptables
from testbed.proxy.modes.iptables_rules import service_rules
from testbed.proxy.modes.ipvs import IpvsMode
from testbed.proxy.modes.nftables import TABLES, Nftables
from testbed.proxy.modes.userspace import Userspace
from testbed.proxy.modes.userspace_rules import carried, redirects
from testbed.proxy.options import ProxyOptions

GOLDEN = Path(__file__).parent / "golden"


def written(wanted: Wanted) -> str:
    """As iptables-restore would take it."""
    lines = []
    for table, chains in wanted.tables.items():
        lines.append(f"*{table}")
        lines += [f":{chain} - [0:0]" for chain in chains]
        for chain, rules in wanted.jumps[table].items():
            lines += [f"-A {chain} {rule}" for rule in rules]
        lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


def iptables(snapshot: Snapshot, options: ProxyOptions) -> str:
    return written(Iptables(options).render(snapshot))


def ipvs(snapshot: Snapshot, options: ProxyOptions) -> str:
    state = IpvsMode(options).render(snapshot)
    lines = [f"{ip} dev kube-ipvs0" for ip in sorted(state.ips)]
    for (protocol, ip, port), server in sorted(state.servers.items()):
        lines.append(f"{protocol} {bracketed(ip)}:{port} {server.scheduler} persistent {server.persistence}")
        lines += [f"  -> {Endpoint(*real)} weight {weight}" for real, weight in server.servers.items()]
    for name, found in state.sets.items():
        lines += [f"add {name} {entry}" for entry in sorted(found.entries)]
    return "\n".join(lines) + "\n" + written(state.rules)


def nftables(snapshot: Snapshot, options: ProxyOptions) -> str:
    return text(creation(TABLES[options.family], Nftables(options).render(snapshot)))


def userspace(snapshot: Snapshot, options: ProxyOptions) -> str:
    state = Userspace(options).render(snapshot)
    ports = {key: 40000 + number for number, key in enumerate(state.listeners)}
    lines = [f"{' '.join(key[:3])} {ports[key]} -> {listener}" for key, listener in state.listeners.items()]
    refusals = [service_rules(carried(one), options) for one in snapshot.services.values()]
    return "\n".join(lines) + "\n" + written(redirects(snapshot, ports, refusals, options))


def held_by_golden(name: str, found: str) -> None:
    """`found` is what stands in golden/NAME.txt."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TESTBED_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


Mode = Callable[[Snapshot, ProxyOptions], str]


@pytest.mark.parametrize("mode", [iptables, ipvs, nftables, userspace])
@pytest.mark.feature("A16", "A17", "A18")
def test_rules(mode: Mode) -> None:
    held_by_golden(mode.__name__, mode(SNAPSHOT, OPTIONS))


@pytest.mark.parametrize("mode", [iptables, ipvs, nftables, userspace])
@pytest.mark.feature("B9")
def test_rules_in_ipv6(mode: Mode) -> None:
    found = mode(ipv6_twin.snapshot(SNAPSHOT), ipv6_twin.options(OPTIONS))
    held_by_golden(f"{mode.__name__}-ipv6", found)
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", found), "an IPv4 address"


@pytest.mark.parametrize("mode", [iptables, ipvs, userspace])
def test_chains_come_leaves_first(mode: Mode) -> None:
    """Otherwise a large load into iptables-nft, which goes in portions, would jump to what is not there."""
    known: set[str] = set()
    for line in mode(SNAPSHOT, OPTIONS).splitlines():
        if line.startswith("*"):
            known = set()
        chain = line.split()[1] if line.startswith("-A KUBE-") else ""
        if chain:
            target = line.rpartition("-j ")[2].split()[0]
            assert not target.startswith("KUBE-") or target in known, line
            known.add(chain)


def test_node_is_in_no_rule_of_iptables_mode() -> None:
    """Rules follow the node's addresses by themselves, unless --nodeport-addresses binds them."""
    assert NODE not in iptables(SNAPSHOT, OPTIONS)


@pytest.mark.parametrize("scheduler", IPVS_SCHEDULERS)
@pytest.mark.feature("A17")
def test_every_virtual_server_has_the_scheduler_asked_for(scheduler: str) -> None:
    servers = IpvsMode(replace(OPTIONS, ipvs_scheduler=scheduler)).render(SNAPSHOT).servers.values()
    assert {server.scheduler for server in servers} == {scheduler}
    assert {weight for server in servers for weight in server.servers.values()} == {1}
