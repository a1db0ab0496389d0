"""The service proxy agent of one node. It works with any Kubernetes API server, and takes kube-proxy's flags.

Example:
  testbed kube-proxy --kubeconfig node01.kubeconfig --hostname-override node01 --proxy-mode iptables \\
      --cluster-cidr 10.244.0.0/16
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import time
from ipaddress import ip_network

from testbed.errors import UsageError
from testbed.model.duration import seconds
from testbed.model.families import listed, networks
from testbed.proxy.modes import DEFAULT, NAMES, mode_class
from testbed.proxy.options import ProxyOptions

WITHOUT_EFFECT = (
    "bind-address",
    "config-sync-period",
    "conntrack-max-per-core",
    "conntrack-min",
    "conntrack-tcp-timeout-close-wait",
    "conntrack-tcp-timeout-established",
    "kube-api-burst",
    "kube-api-content-type",
    "kube-api-qps",
    "oom-score-adj",
    "v",
)
"""Flags of kube-proxy that are taken, so that its command lines work, and that say nothing to this agent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", default="", metavar="FILE", help="how to reach the API server")
    add("--hostname-override", default="", metavar="NODE", help="this node's name; default: the host name")
    add("--proxy-mode", default=DEFAULT, metavar="MODE", help=f"{', '.join(NAMES)}; default {DEFAULT}")
    add(
        "--userspace-engine",
        choices=("builtin", "haproxy"),
        default="builtin",
        help="userspace: what carries TCP; haproxy is --proxy-mode userspace-haproxy; default builtin",
    )
    add("--cluster-cidr", default="", metavar="CIDR[,CIDR]", help="the Pods' ranges; others are masqueraded")
    add("--masquerade-all", action="store_true", help="masquerade all traffic to cluster IPs")
    add("--nodeport-addresses", default="", metavar="CIDR,…", help="where node ports answer; default: all")
    add("--ipvs-scheduler", default="rr", metavar="NAME", help="IPVS scheduler; default rr")
    add("--ipvs-sync-period", default="30s", metavar="TIME", help="ipvs: repair this often; default 30s")
    add("--ipvs-min-sync-period", default="", metavar="TIME", help="ipvs: gather changes this long")
    add(
        "--ipvs-tcp-timeout",
        default="0s",
        metavar="TIME",
        help="ipvs: idle TCP connections end; 0s: kernel's",
    )
    add("--ipvs-tcpfin-timeout", default="0s", metavar="TIME", help="ipvs: the same after a FIN")
    add("--ipvs-udp-timeout", default="0s", metavar="TIME", help="ipvs: UDP sessions end")
    add(
        "--ipvs-exclude-cidrs",
        default="",
        metavar="CIDR,…",
        help="ipvs: virtual servers there are others' and are never removed",
    )
    add("--ipvs-strict-arp", action="store_true", help="answer ARP only on the interface of the address")
    add("--iptables-sync-period", default="30s", metavar="TIME", help="repair this often; default 30s")
    add(
        "--iptables-min-sync-period",
        default="0s",
        metavar="TIME",
        help="gather changes this long; default 0s",
    )
    add(
        "--nftables-sync-period",
        default="30s",
        metavar="TIME",
        help="nftables: repair this often; default 30s",
    )
    add("--nftables-min-sync-period", default="", metavar="TIME", help="nftables: gather changes this long")
    add("--healthz-bind-address", default="0.0.0.0:10256", metavar="ADDR", help='"" for none')
    add("--metrics-bind-address", default="127.0.0.1:10249", metavar="ADDR", help='"" for none')
    for flag in WITHOUT_EFFECT:
        add(f"--{flag}", help=argparse.SUPPRESS)
    add("--cleanup", action="store_true", help="remove what any mode has left on this node, and end")


def run(args: argparse.Namespace) -> int:
    _log_as_klog(args.verbose)
    if args.cleanup:
        return _cleanup()
    if args.proxy_mode == "userspace" and args.userspace_engine == "haproxy":
        args.proxy_mode = "userspace-haproxy"
    if args.proxy_mode not in NAMES:
        raise UsageError(f"--proxy-mode {args.proxy_mode!r} is unknown; choose one of {', '.join(NAMES)}")
    if not args.kubeconfig:
        raise UsageError("--kubeconfig is needed; `testbed kubeconfig` prints a running cluster's")
    from testbed.proxy.agent import Agent

    for flag in WITHOUT_EFFECT:
        if getattr(args, flag.replace("-", "_")) is not None:
            logging.getLogger(__name__).warning("--%s has no effect here", flag)
    agent = Agent(
        args.kubeconfig,
        args.proxy_mode,
        options(args),
        args.healthz_bind_address,
        args.metrics_bind_address,
    )
    asyncio.run(agent.run())
    return 0


def options(args: argparse.Namespace) -> ProxyOptions:
    """The options of the mode that was asked for. Raises UsageError."""
    kind = args.proxy_mode if args.proxy_mode in ("ipvs", "nftables") else "iptables"
    return ProxyOptions(
        node=args.hostname_override or socket.gethostname(),
        cluster_cidr=listed(networks(args.cluster_cidr, "--cluster-cidr")) if args.cluster_cidr else "",
        masquerade_all=args.masquerade_all,
        nodeport_addresses=tuple(
            _cidr("--nodeport-addresses", cidr) for cidr in args.nodeport_addresses.split(",") if cidr
        ),
        ipvs_scheduler=args.ipvs_scheduler,
        sync_period=seconds(getattr(args, f"{kind}_sync_period")),
        min_sync_period=seconds(getattr(args, f"{kind}_min_sync_period") or "0s"),
        ipvs_tcp_timeout=seconds(args.ipvs_tcp_timeout),
        ipvs_tcpfin_timeout=seconds(args.ipvs_tcpfin_timeout),
        ipvs_udp_timeout=seconds(args.ipvs_udp_timeout),
        ipvs_strict_arp=args.ipvs_strict_arp,
        ipvs_exclude_cidrs=tuple(
            _cidr("--ipvs-exclude-cidrs", cidr) for cidr in args.ipvs_exclude_cidrs.split(",") if cidr
        ),
    )


def _cidr(flag: str, text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _cleanup() -> int:
    from testbed.model.families import VERSIONS
    from testbed.proxy.modes.chains import remove_rules, remove_rules_of_the_other_variant
    from testbed.proxy.proxier import lacks

    for family in VERSIONS:
        if not lacks(family):
            remove_rules(family)
        remove_rules_of_the_other_variant(family)
    for name in NAMES:
        mode_class(name).cleanup()
    return 0


class _Klog(logging.Formatter):
    """Lines as Kubernetes' components write them: `I1231 23:59:59.000000    4711 tracker] text`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micro = int(record.created % 1 * 1e6)
        name = record.name.rpartition(".")[2]
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{record.levelname[0]}{clock}.{micro:06d} {record.process:7d} {name}] {text}"


def _log_as_klog(verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Klog())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
