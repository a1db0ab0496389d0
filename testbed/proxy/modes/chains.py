"""What the modes' iptables rules have in common: names, mark, spelling as iptables-save has it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from ipaddress import ip_network
from pathlib import Path

from testbed.kernel.ruleset import RuleSet, Wanted
from testbed.kernel.xtables import Rules, Xtables, XtablesError
from testbed.model.service import ServicePort

MARK = "0x4000"
"""The bit of the packet mark that asks for masquerading (kube-proxy's --iptables-masquerade-bit 14)."""
MARK_MASQ, POSTROUTING = "KUBE-MARK-MASQ", "KUBE-POSTROUTING"
TABLES = ("filter", "nat")
LEGACY_TABLES = {
    4: Path("/proc/thread-self/net/ip_tables_names"),
    6: Path("/proc/thread-self/net/ip6_tables_names"),
}
"""Which legacy tables this network namespace has; looking into another would make it."""
KUBELETS = frozenset({"KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "KUBE-MARK-DROP"})
"""Chains that look like a proxy's and are the kubelet's."""


def owns(chain: str) -> bool:
    """A service proxy's chain, of whatever mode."""
    return chain.startswith("KUBE-") and chain not in KUBELETS


def rule_set(xtables: Xtables) -> RuleSet:
    return RuleSet(xtables, owns, TABLES)


def remove_rules(family: int = 4) -> int:
    """Take out every chain that a service proxy of any mode has made. Returns the lines it took."""
    return rule_set(Xtables(family)).apply(Wanted())


def remove_rules_of_the_other_variant(family: int = 4) -> int:
    """The same in the variant of iptables that PATH does not have, nft or legacy: its rules are in tables of
    their own, and translate beside ours. Returns the lines it took; 0 where there is none."""
    with contextlib.suppress(XtablesError):
        if not Xtables(family).is_nft:
            return RuleSet(Xtables(family, "nft"), owns, TABLES).apply(Wanted())
        names = LEGACY_TABLES[family]
        there = names.read_text().split() if names.exists() else []
        if tables := tuple(table for table in TABLES if table in there):
            return RuleSet(Xtables(family, "legacy"), owns, tables).apply(Wanted())
    return 0


def port_unreachable(family: int) -> str:
    """What REJECT answers, as iptables-save prints it."""
    return "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"


def chain_name(prefix: str, *parts: str) -> str:
    """`KUBE-SVC-XPGD46QRK7WJZT7O`: kube-proxy's own names (pkg/proxy/iptables, portProtoHash)."""
    digest = hashlib.sha256("".join(parts).encode()).digest()
    return prefix + base64.b32encode(digest).decode()[:16]


def service_chain(prefix: str, service: ServicePort) -> str:
    return chain_name(prefix, service.name, service.protocol.lower())


def host(ip: str) -> str:
    """A single address as iptables-save prints it."""
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def cidr(text: str) -> str:
    """A network as iptables-save prints it."""
    return str(ip_network(text, strict=False))


def source(text: str, inverted: bool = False) -> str:
    """The match of a source network; "" for everybody, which iptables-save leaves out."""
    network = cidr(text)
    return "" if network.endswith("/0") and not inverted else f"{'! ' * inverted}-s {network} "


def comment(text: str) -> str:
    return f'-m comment --comment "{text}" '


def port_match(
    service: ServicePort, note: str, ip: str = "", port: int = 0, sources: str = "", match: str = ""
) -> str:
    """Packets to `ip` (any if empty) and `port` (default the Service's), with `note` in the comment.

    `sources` and `match` are further matches, put where iptables-save puts them.
    """
    protocol = service.protocol.lower()
    destination = f"-d {host(ip)} " if ip else ""
    said = comment(f"{service.name} {note}".rstrip())
    return f"{sources}{destination}-p {protocol} {said}{match}-m {protocol} --dport {port or service.port} "


def mark_masq() -> Rules:
    return (f"-j MARK --set-xmark {MARK}/{MARK}",)


def postrouting(random_fully: bool = True) -> Rules:
    """Masquerade what is marked. The mark goes first, lest the packet be masqueraded again on its way."""
    return (
        f"-m mark ! --mark {MARK}/{MARK} -j RETURN",
        f"-j MARK --set-xmark {MARK}/0x0",
        comment("kubernetes service traffic requiring SNAT")
        + "-j MASQUERADE"
        + " --random-fully" * random_fully,
    )
