"""Host ports: the capability `portMappings` of our CNI plugin, as nftables rules in a table for each Pod.

A Pod's table has all of its rules, so one deletion takes them, whatever state the Pod is in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.errors import TestbedError
from testbed.model.families import Address, bracketed

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
        {hairpins}
    }}
}}
"""
KEYWORDS = {4: "ip", 6: "ip6"}


def script(name: str, mappings: Iterable[Object], addresses: Sequence[Address]) -> str:
    """The nft script of a Pod that has `addresses`. Pure."""
    rules, hairpins = [], []
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
        hairpins.append(f"{keyword} saddr {address} {keyword} daddr {address} masquerade")
    lines = "\n        ".join
    return TABLE.format(name=name, rules=lines(rules), hairpins=lines(hairpins))


def add(name: str, mappings: Sequence[Object], addresses: Sequence[Address]) -> None:
    """Lead the node's ports to the Pod. Raises TestbedError."""
    if mappings:
        _nft(f"table inet {name}\ndelete table inet {name}\n" + script(name, mappings, addresses))


def remove(name: str, mappings: Sequence[Object]) -> None:
    """No trace is left of what was added for `mappings`; nothing there is fine."""
    if mappings:
        _nft(f"table inet {name}\ndelete table inet {name}\n")


def _nft(text: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TestbedError(f"host ports: {done.stderr.strip().splitlines()[0]}")
