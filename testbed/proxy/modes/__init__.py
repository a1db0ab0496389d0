"""The proxy modes, by the name that `--proxy-mode` takes. A new mode is one file and one row here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from testbed.proxy.modes.base import Mode

_MODES = {
    "iptables": ("iptables", "Iptables"),
    "ipvs": ("ipvs", "IpvsMode"),
    "nftables": ("nftables", "Nftables"),
    "userspace": ("userspace", "Userspace"),
    "userspace-haproxy": ("userspace_haproxy", "UserspaceHaproxy"),
}

KERNEL_FEATURE = {"ipvs": "ip_vs", "nftables": "nf_tables"}
"""What a mode needs of the kernel, by the names of `testbed check`, where a kernel may lack it."""

NAMES = tuple(_MODES)
DEFAULT = "iptables"


def mode_class(name: str) -> type[Mode[Any]]:
    """The class of a mode. KeyError for a name that is not in the table."""
    module, cls = _MODES[name]
    found: type[Mode[Any]] = getattr(import_module(f"testbed.proxy.modes.{module}"), cls)
    return found
