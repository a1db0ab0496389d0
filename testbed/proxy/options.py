"""What the agent was told on its command line, in kube-proxy's own words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_network


@dataclass(frozen=True)
class ProxyOptions:
    """Options of a mode, which serves one IP family. Times in seconds."""

    node: str = ""
    """`--hostname-override`: which endpoints are local."""
    cluster_cidr: str = ""
    """`--cluster-cidr`: traffic to a cluster IP from anywhere else is masqueraded. "": none is.

    One range of each family, with a comma between, as long as the options are for both families.
    """
    masquerade_all: bool = False
    nodeport_addresses: tuple[str, ...] = ()
    """CIDRs whose local addresses node ports answer on. Empty: all."""
    ipvs_scheduler: str = "rr"
    sync_period: float = 30.0
    """The whole state is compared with the kernel's, and repaired, this often at least."""
    min_sync_period: float = 0.0
    """Changes are gathered for at least this long after a sync."""
    udp_timeout: float = 30.0
    """userspace: a UDP session without a packet ends."""
    ipvs_tcp_timeout: float = 0.0
    """`--ipvs-tcp-timeout`: an idle TCP connection is forgotten. 0 leaves the kernel's value; so below."""
    ipvs_tcpfin_timeout: float = 0.0
    """The same after the first FIN."""
    ipvs_udp_timeout: float = 0.0
    ipvs_exclude_cidrs: tuple[str, ...] = ()
    """`--ipvs-exclude-cidrs`: virtual servers there are somebody else's, unless a Service wants them."""
    ipvs_strict_arp: bool = False
    """Nobody but the interface that holds an address answers ARP for it."""
    family: int = 4

    def of_family(self, family: int) -> ProxyOptions:
        """What is for one IP family. In one that --nodeport-addresses omits, node ports answer everywhere."""

        def own(cidrs: Iterable[str]) -> tuple[str, ...]:
            return tuple(cidr for cidr in cidrs if cidr and ip_network(cidr).version == family)

        return replace(
            self,
            family=family,
            cluster_cidr="".join(own(self.cluster_cidr.split(","))),
            nodeport_addresses=own(self.nodeport_addresses),
        )
