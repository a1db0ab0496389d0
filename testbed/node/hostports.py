"""Host ports and masquerading: the capability `portMappings` and the option `ipMasq` of our CNI plugin, as
nftables rules in a table for each Pod that asks for them.

A Pod's table has all of its rules, so one deletion takes them, whatever state the Pod is in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from testbed.errors import TestbedError
from testbed.model.families import Address, Network, bracketed

Object = Mapping[str, Any]

# One step before the chains of kube-proxy, whose rules leave what has been translated alone. nft takes names
# for priorities, but the one of `output` has none.
TABLE = """\
table inet {name} {{
    chain prerouting {{
        type nat hook prerouting priority -101
        {rules}
    }}
    chain output {{
        type nat hook output priority -101
        {rules}
    }}
    chain postrouting {{
        type nat hook postrouting priority 99
        {sources}
    }}
}}
"""
KEYWORDS = {4: "ip", 6: "ip6"}
MULTICAST = {4: ip_network("224.0.0.0/4"), 6: ip_network("ff00::/8")}


def script(
    name: str, mappings: Iterable[Object], addresses: Sequence[Address], spared: Sequence[Network] = ()
) -> str:
    """The nft script of a Pod that has `addresses`. Pure.

    `spared`: with these it speaks as itself, with all others as its node; none: with all as itself.
    """
    rules, sources = [], []
    for address in addresses:
        keyword = KEYWORDS[address.version]
        for mapping in mappings:
            asked = str(mapping.get("hostIP") or "")
            if asked in ("0.0.0.0", "::"):
                asked = ""
            if asked and (":" in asked) != (address.version == 6):
                continue
            where = (
                f"{keyword} daddr {asked}"
                if asked
                else f"meta nfproto ipv{address.version} fib daddr type local"
            )
            target = f"{bracketed(str(address))}:{mapping['containerPort']}"
            rules.append(
                f"{where} {mapping['protocol']} dport {mapping['hostPort']} dnat {keyword} to {target}"
            )
        # To itself by way of the node: the answer must come back through the node too.
        sources.append(f"{keyword} saddr {address} {keyword} daddr {address} masquerade")
        own = [str(each) for each in (*spared, MULTICAST[address.version]) if each.version == address.version]
        if spared:
            sources.append(f"{keyword} saddr {address} {keyword} daddr != {{ {', '.join(own)} }} masquerade")
    lines = "\n        ".join
    return TABLE.format(name=name, rules=lines(rules), sources=lines(sources))


def add(
    name: str, mappings: Sequence[Object], addresses: Sequence[Address], spared: Sequence[Network] = ()
) -> None:
    """Lead the node's ports to the Pod, and let it speak as its node. Raises TestbedError."""
    if mappings or spared:
        _nft(f"table inet {name}\ndelete table inet {name}\n" + script(name, mappings, addresses, spared))


def remove(name: str, mappings: Sequence[Object], spared: Sequence[Network] = ()) -> None:
    """No trace is left of what was added for these; nothing there is fine."""
    if mappings or spared:
        _nft(f"table inet {name}\ndelete table inet {name}\n")


def _nft(text: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"host ports: {done.stderr.strip().splitlines()[0]}")
