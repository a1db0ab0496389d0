"""The rules of each mode, whole, in golden/. TESTBED_UPDATE_GOLDEN=1 writes them anew: read the diff."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from service_cases import NODE, OPTIONS, SERVICES, SNAPSHOT

from testbed.kernel.nft import creation, text
from testbed.kernel.ruleset import Wanted
from testbed.proxy.modes.iptables import Iptables
from testbed.proxy.modes.iptables_rules import service_rules
from testbed.proxy.modes.ipvs import IpvsMode
from testbed.proxy.modes.nftables import TABLES, Nftables
from testbed.proxy.modes.userspace import Userspace
from testbed.proxy.modes.userspace_rules import redirects

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


def iptables() -> str:
    return written(Iptables(OPTIONS).render(SNAPSHOT))


def ipvs() -> str:
    state = IpvsMode(OPTIONS).render(SNAPSHOT)
    lines = [f"{ip}/32 dev kube-ipvs0" for ip in sorted(state.ips)]
    for (protocol, ip, port), server in sorted(state.servers.items()):
        lines.append(f"{protocol} {ip}:{port} {server.scheduler} persistent {server.persistence}")
        lines += [f"  -> {real[0]}:{real[1]} weight {weight}" for real, weight in server.servers.items()]
    for name, found in state.sets.items():
        lines += [f"add {name} {entry}" for entry in sorted(found.entries)]
    return "\n".join(lines) + "\n" + written(state.rules)


def nftables() -> str:
    return text(creation(TABLES[4], Nftables(OPTIONS).render(SNAPSHOT)))


def userspace() -> str:
    state = Userspace(OPTIONS).render(SNAPSHOT)
    ports = {key: 40000 + number for number, key in enumerate(state.listeners)}
    lines = [f"{' '.join(key[:3])} {ports[key]} -> {listener}" for key, listener in state.listeners.items()]
    refusals = [service_rules(one, OPTIONS) for one in SERVICES]
    return "\n".join(lines) + "\n" + written(redirects(SNAPSHOT, ports, refusals, OPTIONS))


def held_by_golden(name: str, found: str) -> None:
    """`found` is what stands in golden/NAME.txt."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TESTBED_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


@pytest.mark.parametrize("mode", [iptables, ipvs, nftables, userspace])
@pytest.mark.feature("A16", "A17", "A18")
def test_rules(mode: Callable[[], str]) -> None:
    held_by_golden(mode.__name__, mode())


@pytest.mark.parametrize("mode", [iptables, ipvs, userspace])
def test_chains_come_leaves_first(mode: Callable[[], str]) -> None:
    """Otherwise a large load into iptables-nft, which goes in portions, would jump to what is not there."""
    known: set[str] = set()
    for line in mode().splitlines():
        if line.startswith("*"):
            known = set()
        chain = line.split()[1] if line.startswith("-A KUBE-") else ""
        if chain:
            target = line.rpartition("-j ")[2].split()[0]
            assert not target.startswith("KUBE-") or target in known, line
            known.add(chain)


def test_node_is_in_no_rule_of_iptables_mode() -> None:
    """Rules follow the node's addresses by themselves, unless --nodeport-addresses binds them."""
    assert NODE not in iptables()
