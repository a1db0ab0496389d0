"""What the running kernel can do, tried for real.

Each feature is tried in a network namespace of its own that is gone afterwards. As with any use of it, the
kernel may load the module that provides it; nothing else changes.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import UsageError
from testbed.kernel import cgroup

# linux/netlink.h and genetlink.h: the controller's family, its request for a family by name.
NETLINK_GENERIC = 16
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME = 0x10, 3, 2
NLMSG_ERROR, NLM_F_REQUEST = 2, 1


@dataclass(frozen=True)
class Feature:
    """Something the kernel may lack: what it is for, and a trial (a shell line in a fresh namespace, or a
    call).
    """

    purpose: str
    trial: str | Callable[[], bool]


def _generic_netlink(family: str) -> bool:
    """True when the kernel knows the generic netlink family; asking loads its module
    (net/netlink/genetlink.c).
    """
    name = family.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), CTRL_ATTR_FAMILY_NAME) + name + bytes(-len(name) % 4)
    body = struct.pack("=BBH", CTRL_CMD_GETFAMILY, 1, 0) + attribute
    head = struct.pack("=IHHII", 16 + len(body), GENL_ID_CTRL, NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as channel:
        channel.send(head + body)
        kind = struct.unpack_from("=IH", channel.recv(8192))[1]
    return bool(kind != NLMSG_ERROR)


def _sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def _rule(program: str) -> str:
    # The matches and targets kube-proxy's rules are made of.
    return (
        f"{program} -t nat -A POSTROUTING -p tcp -m comment --comment x -m mark --mark 0x4000/0x4000 "
        "-m statistic --mode random --probability 0.5 -m addrtype --dst-type LOCAL -j MASQUERADE "
        "--random-fully"
    )


FEATURES: dict[str, Feature] = {
    "root": Feature("making namespaces and rules", lambda: os.geteuid() == 0),
    "netns": Feature("network namespaces", "true"),
    "veth": Feature("links between namespaces", "ip link add name t0 type veth peer name t1"),
    "bridge": Feature("the underlay and the Pod bridges", "ip link add name t0 type bridge"),
    "iptables-legacy": Feature("iptables mode on the legacy variant", _rule("iptables-legacy")),
    "iptables-nft": Feature("iptables mode on the nft variant", _rule("iptables-nft")),
    "ip6tables": Feature("IPv6 Services in iptables mode", _rule("ip6tables")),
    "nf_tables": Feature(
        "nftables mode",
        "nft add table inet t && nft add map inet t m '{ type inet_proto . ipv4_addr . inet_service "
        ": verdict; }'",
    ),
    "ip_vs": Feature("IPVS mode", lambda: _generic_netlink("IPVS")),
    "ipset": Feature("sets of addresses in iptables rules", "ipset create s hash:ip,port"),
    "dummy": Feature("IPVS mode's device kube-ipvs0", "ip link add name t0 type dummy"),
    "conntrack": Feature("removing stale connections", "conntrack -L"),
    "br_netfilter": Feature(
        "rules for packets between Pods of one node",
        "test -e /proc/sys/net/bridge/bridge-nf-call-iptables || modprobe -qn br_netfilter",
    ),
    "sctp": Feature("SCTP Services", _sctp),
    "vxlan": Feature(
        "routes between nodes on different segments", "ip link add name t0 type vxlan id 1 dstport 4789"
    ),
    "cgroup2": Feature("limits of Pods' memory and processor time, not enforced without it", cgroup.usable),
    "netem": Feature("delay and loss on links", "tc qdisc add dev lo root netem delay 1ms"),
}


@functools.cache
def has(feature: str) -> bool:
    """True when the running kernel (with the tools on PATH) can do `feature`. Raises UsageError for an
    unknown one.
    """
    try:
        trial = FEATURES[feature].trial
    except KeyError:
        raise UsageError(f"unknown kernel feature {feature!r}: one of {', '.join(FEATURES)}") from None
    return _in_namespace(trial) if isinstance(trial, str) else trial()


def missing(features: Iterable[str]) -> list[str]:
    """Those of `features` that the running kernel lacks."""
    return [feature for feature in dict.fromkeys(features) if not has(feature)]


def _in_namespace(line: str) -> bool:
    # Legacy iptables locks a file in the host's /run, which is not the namespace's own.
    environment = {
        **os.environ,
        "XTABLES_LOCKFILE": os.devnull,
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *user, "--net", "sh", "-c", line]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def kernel() -> str:
    """The running kernel's release, e.g. "6.1.0-56-amd64"."""
    return os.uname().release


def modules_loadable() -> bool:
    """True when this kernel's modules are on disk."""
    return (Path("/lib/modules") / kernel() / "modules.dep").exists()
