"""The IP addresses of the current network namespace's interfaces."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from pyroute2 import IPRoute


def local_addresses(family: int = 4, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Every address of every interface that is not loopback nor named in `without`, sorted.

    Runs an event loop of pyroute2's: not to be called where a loop is running.
    """
    with IPRoute() as ip:
        skipped = {link.get("index") for link in ip.link("dump") if link.get("ifname") in without}
        found = {
            str(addr.get("local") or addr.get("address"))
            for addr in ip.addr("dump", family=2 if family == 4 else 10)
            if addr.get("index") not in skipped
        }
    addresses = sorted(map(ip_address, found), key=lambda one: int(one))
    return tuple(str(one) for one in addresses if not one.is_loopback and not one.is_link_local)


def within(addresses: tuple[str, ...], cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `addresses` that lie in one of `cidrs`; all of them when there are none."""
    networks = [ip_network(cidr, strict=False) for cidr in cidrs]
    return tuple(ip for ip in addresses if not networks or any(ip_address(ip) in net for net in networks))
