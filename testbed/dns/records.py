"""The records of a Service. Pure.

https://github.com/kubernetes/dns/blob/master/docs/specification.md, version 1.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from testbed.dns.wire import CNAME, PTR, Record, address, pointer, reverse, service

Object = dict[str, Any]

WHOLE_WEIGHT = 100


def service_name(obj: Object, domain: str) -> str:
    metadata = obj["metadata"]
    return f"{metadata['name']}.{metadata['namespace']}.svc.{domain}"


def is_headless(obj: Object) -> bool:
    spec = obj["spec"]
    return bool(spec.get("clusterIP") == "None" and spec.get("type") != "ExternalName")


def records_of(obj: Object, slices: Sequence[Object], domain: str) -> list[Record]:
    """All records of a Service; `slices` are its EndpointSlices, which matter to a headless one only."""
    spec, name = obj["spec"], service_name(obj, domain)
    if spec.get("type") == "ExternalName":
        target = str(spec.get("externalName") or "").lower()
        return [pointer(name, CNAME, target)] if target else []
    if is_headless(obj):
        return _headless(name, slices)
    made = []
    for ip in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if ip:
            made += [address(name, ip), pointer(reverse(ip), PTR, name)]
    for port in spec.get("ports") or ():
        if port.get("name"):
            made.append(service(_port_name(port, name), WHOLE_WEIGHT, port["port"], name))
    return made


def _headless(name: str, slices: Sequence[Object]) -> list[Record]:
    made: dict[Record, None] = {}
    ports: dict[str, dict[tuple[int, str], None]] = {}
    for each in slices:
        for endpoint in each.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            ip = endpoint["addresses"][0]
            host = f"{endpoint.get('hostname') or _dashed(ip)}.{name}"
            made |= dict.fromkeys((address(name, ip), address(host, ip), pointer(reverse(ip), PTR, host)))
            for port in each.get("ports") or ():
                if port.get("name") and port.get("port"):
                    ports.setdefault(_port_name(port, name), {})[port["port"], host] = None
    for owner, targets in ports.items():
        weight = max(1, WHOLE_WEIGHT // len(targets))
        made |= dict.fromkeys(service(owner, weight, number, host) for number, host in targets)
    return list(made)


def _port_name(port: Object, name: str) -> str:
    return f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{name}"


def _dashed(ip: str) -> str:
    """A host name for an endpoint that has none."""
    return ip.replace(".", "-").replace(":", "-")


def pod_address(labels: Iterable[str]) -> str:
    """The address in `10-244-1-2` (or with a v6 address in dashes); "" if it is none.

    Names `ADDRESS.NAMESPACE.pod.DOMAIN` are answered from the name itself, for every namespace there is.
    """
    (label,) = labels
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            return str(ip_address(text))
        except ValueError:
            continue
    return ""
