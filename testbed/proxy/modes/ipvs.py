"""IPVS mode: a virtual server for every front, the addresses on kube-ipvs0, and constant rules with sets."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyroute2 import IPRoute, NetlinkError

from testbed.errors import TestbedError, UsageError
from testbed.kernel import addresses, ipset, sysctl
from testbed.kernel.addresses import within
from testbed.kernel.ipset import IpSet
from testbed.kernel.ipvs import TABLE, Front, Ipvs, Table, VirtualServer
from testbed.kernel.ruleset import Wanted
from testbed.kernel.xtables import Xtables
from testbed.model.families import VERSIONS
from testbed.model.service import Route, ServicePort, Snapshot
from testbed.model.topology import IPVS_SCHEDULERS
from testbed.proxy.modes.base import Memo, Mode
from testbed.proxy.modes.chains import rule_set
from testbed.proxy.modes.ipvs_leaving import idle, with_leaving, without
from testbed.proxy.modes.ipvs_rules import (
    JUMPS,
    SETS,
    Entry,
    filter_chains,
    nat_chains,
    node_port_set,
    node_shut_out,
    refusal_rules,
    set_entries,
    set_name,
    spelled,
)
from testbed.proxy.options import ProxyOptions

DEVICE = "kube-ipvs0"
NODE = ""
"""Stands for each of the node's addresses in the front of a node port."""

SYSCTLS = {
    "net.ipv4.vs.conntrack": 1,  # masquerading needs connection tracking
    "net.ipv4.vs.expire_nodest_conn": 1,
    "net.ipv4.vs.expire_quiescent_template": 1,
    "net.ipv4.ip_forward": 1,
}
SYSCTLS_6 = {"net.ipv6.conf.all.forwarding": 1}
STRICT_ARP = {"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2}
LOOK = 5.0
"""Seconds between two looks at servers that leave; kube-proxy's is a minute."""
REUSE_FIXED = (5, 9)
"""Before this kernel, conn_reuse_mode 1 delays or drops reused ports (kubernetes #81775)."""


@dataclass(frozen=True)
class Rendered:
    """One Service port: fronts with their servers, addresses, set entries and rules."""

    servers: Mapping[Front, VirtualServer]
    ips: tuple[str, ...]
    entries: tuple[Entry, ...]
    refusals: tuple[str, ...]


@dataclass(frozen=True)
class IpvsState:
    servers: Table
    ips: frozenset[str]
    sets: Mapping[str, IpSet]
    rules: Wanted


def rendered(service: ServicePort, options: ProxyOptions) -> Rendered:
    """What one Service port needs. Node ports have the address NODE."""
    protocol = service.protocol.value

    def server(route: Route) -> VirtualServer:
        reals = {(one.ip, one.port): 1 for one in route.endpoints}
        return VirtualServer(options.ipvs_scheduler, service.affinity_seconds, reals)

    outside = server(service.external or service.cluster)
    servers = {(protocol, service.cluster_ip, service.port): server(service.internal)}
    servers |= {(protocol, ip, service.port): outside for ip in service.public_ips}
    if service.node_port:
        servers[(protocol, NODE, service.node_port)] = outside
    return Rendered(
        servers,
        (service.cluster_ip, *service.public_ips),
        tuple(set_entries(service)),
        tuple(refusal_rules(service, options)),
    )


class IpvsMode(Mode[IpvsState]):
    """Keeps virtual servers, addresses, sets and rules, in that order, by their differences."""

    title = "ipvs"

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)
        if options.ipvs_scheduler not in IPVS_SCHEDULERS:
            known = ", ".join(IPVS_SCHEDULERS)
            raise UsageError(f"--ipvs-scheduler {options.ipvs_scheduler!r} is unknown; choose one of {known}")
        self._memo = Memo(lambda service: rendered(service, options))
        self._nat = spelled(nat_chains(options), options.family)
        self._sets = {name: set_name(name, options.family) for name in SETS}
        self._known: IpvsState | None = None
        self._look_at = float("inf")

    def start(self) -> str:
        self._ipvs = Ipvs()
        self._ipvs.require(self.options.ipvs_scheduler)
        self._ipvs.set_timeouts(
            round(self.options.ipvs_tcp_timeout),
            round(self.options.ipvs_tcpfin_timeout),
            round(self.options.ipvs_udp_timeout),
        )
        xtables = Xtables(self.options.family)
        self._rules = rule_set(xtables)
        more = STRICT_ARP if self.options.ipvs_strict_arp else {}
        if self.options.family == 6:
            more = more | SYSCTLS_6
        for name, value in {**SYSCTLS, **more}.items():
            sysctl.put(name, value)
        release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
        if release < REUSE_FIXED:
            sysctl.put("net.ipv4.vs.conn_reuse_mode", 0)
        return f"{xtables.version}, scheduler {self.options.ipvs_scheduler}, {make_device()}"

    def render(self, snapshot: Snapshot) -> IpvsState:
        every = self._memo.of(snapshot)
        servers: Table = {}
        entries: dict[str, set[str]] = {name: set() for name in SETS}
        for one in every:
            for (protocol, ip, port), server in one.servers.items():
                for address in (ip,) if ip != NODE else snapshot.node_port_ips:
                    servers[(protocol, address, port)] = server
            for name, entry in one.entries:
                own = snapshot.node_port_ips if entry.startswith(",") else ("",)
                entries[name].update(ip + entry for ip in own)
        refusals = [rule for one in every for rule in one.refusals]
        shut_out = [
            rule for one in snapshot.services.values() for rule in node_shut_out(one, snapshot.node_ip)
        ]
        # an external IP that is a node's own stays the node's (kubernetes #59976)
        ips = frozenset(ip for one in every for ip in one.ips) - set(snapshot.node_port_ips)
        entries["KUBE-IPVS-IPS"] -= set(snapshot.node_port_ips)
        filters = spelled(filter_chains(refusals, shut_out), self.options.family)
        rules = Wanted({"nat": self._nat, "filter": filters}, JUMPS)
        return IpvsState(
            servers,
            ips,
            {
                self._sets[name]: IpSet(SETS[name], frozenset(found), self.options.family)
                for name, found in entries.items()
            },
            rules,
        )

    def sync(self, state: IpvsState, *, repair: bool = False) -> int:
        """Rules come last: while another mode's rules translate, the servers are being set up behind them."""
        known = self._read(state.servers) if repair or self._known is None else self._known
        self._known = None
        changes = ipset.change(known.sets, state.sets)
        servers, moved = self._change_servers(known.servers, state.servers)
        changes += moved
        add, remove = state.ips - known.ips, known.ips - state.ips
        if add or remove:
            addresses.change(DEVICE, add=add, remove=remove)
        changes += len(add) + len(remove) + self._rules.apply(state.rules, repair=repair)
        self._known = replace(state, servers=servers)
        return changes

    def _change_servers(self, known: Table, wanted: Table) -> tuple[Table, int]:
        """Servers that leave get weight 0, and go when their last connection has; what is there then."""
        slow = with_leaving(known, wanted)
        changes = self._ipvs.change(known, slow)
        fronts = [front for front, server in slow.items() if server is not wanted[front]]
        gone = {front: idle(self._ipvs.connections(front), slow[front], wanted[front]) for front in fronts}
        there = without(slow, wanted, gone)
        changes += self._ipvs.change(slow, there)
        leaving = any(there[front] is not wanted[front] for front in fronts)
        self._look_at = time.monotonic() + LOOK if leaving else float("inf")
        return there, changes

    def healthy(self) -> bool:
        """False when it is time to see whether servers that leave have lost their last connection."""
        return time.monotonic() < self._look_at

    def _read(self, wanted: Table) -> IpvsState:
        make_device()
        family = self.options.family
        sets = {name: held for name, held in ipset.read("KUBE-").items() if name in self._sets.values()}
        ips = frozenset(addresses.on_interface(DEVICE, family))
        servers = own_servers(self._ipvs.read(), ips, sets, wanted, family)
        foreign = [front for front in servers if front not in wanted and self._excluded(front)]
        for front in foreign:
            del servers[front]
        return IpvsState(servers, ips, sets, Wanted())

    def _excluded(self, front: Front) -> bool:
        return bool(self.options.ipvs_exclude_cidrs and within((front[1],), self.options.ipvs_exclude_cidrs))

    @classmethod
    def cleanup(cls) -> None:
        """Servers are looked for until none is found: a list of several pages skips some when other
        namespaces remove theirs meanwhile; its place is counted among everybody's (ip_vs_genl_dump_services).
        """
        sets = ipset.read("KUBE-")
        if TABLE.exists():
            ipvs = Ipvs()
            for family in VERSIONS:
                ips = frozenset(addresses.on_interface(DEVICE, family))
                while found := own_servers(ipvs.read(), ips, sets, {}, family):
                    ipvs.change(found, {})
        if addresses.index_of(DEVICE):
            with IPRoute() as ip:
                ip.link("del", index=addresses.index_of(DEVICE))
        own = {set_name(name, family) for name in SETS for family in VERSIONS}
        ipset.destroy([name for name in sets if name in own])


def own_servers(
    table: Table, ips: frozenset[str], sets: Mapping[str, IpSet], wanted: Table, family: int = 4
) -> Table:
    """Those of `table` that this mode made for a family: on the device's addresses or a set's node port, or
    wanted."""
    node_ports = {
        (protocol, int(port.rpartition(":")[2]))
        for protocol in ("TCP", "UDP", "SCTP")
        if (found := sets.get(set_name(node_port_set(protocol), family)))
        for port in found.entries
    }
    return {
        front: server
        for front, server in table.items()
        if (":" in front[1]) == (family == 6)
        and (front in wanted or front[1] in ips or (front[0], front[2]) in node_ports)
    }


def make_device() -> str:
    """The link that holds the Services' addresses; it stays down, so that nobody asks it for them.

    A kernel without dummy links gets a bridge without ports: it holds addresses as well.
    """
    if addresses.index_of(DEVICE):
        return f"{DEVICE} is there"
    with IPRoute() as ip:
        for kind in ("dummy", "bridge"):
            with contextlib.suppress(NetlinkError):
                ip.link("add", ifname=DEVICE, kind=kind)
                return f"{DEVICE} is a {kind}"
    raise TestbedError(f"{DEVICE} cannot be made: this kernel has neither dummy nor bridge links")
