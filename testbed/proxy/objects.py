"""What the agent reads out of API objects. Half-built ones are normal: such a one raises `Malformed`.

Field meanings: kubernetes.io/docs/reference/kubernetes-api/service-resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from testbed.model.service import Protocol, ServicePort

Object = Mapping[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
DEFAULT_AFFINITY = 10800
"""Seconds that ClientIP affinity lasts unless the Service says otherwise."""


class Malformed(ValueError):
    """An object the agent cannot use, and why."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of an EndpointSlice with one of its ports, and the conditions it is in."""

    ip: str
    port: int
    node: str
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    """Zones that should use it (hints); empty: no hint."""


def ignored(obj: Object) -> bool:
    """Another proxy's, or headless: not this agent's (KEP-2447)."""
    labels = obj["metadata"].get("labels") or {}
    return PROXY_NAME in labels or HEADLESS in labels


def service_ports(service: Object, family: int = 4) -> list[ServicePort]:
    """The ports of a Service as specified, without endpoints; none for headless and ExternalName ones."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or ignored(service):
        return []
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    cluster_ip = next((ip for ip in addresses if ip and ip != "None" and _version(ip) == family), "")
    if not cluster_ip:
        return []
    common = _common(service, family)
    return [_port(service, port, cluster_ip, common) for port in spec.get("ports") or ()]


def _common(service: Object, family: int) -> dict[str, Any]:
    """The fields that all ports of a Service share."""
    spec = service["spec"]
    affinity = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return {
        "external_ips": tuple(ip for ip in spec.get("externalIPs") or () if _version(ip) == family),
        "load_balancer_ips": tuple(
            one["ip"]
            for one in ingress
            if one.get("ip") and one.get("ipMode", "VIP") == "VIP" and _version(one["ip"]) == family
        ),
        "source_ranges": tuple(
            cidr
            for cidr in map(_cidr, spec.get("loadBalancerSourceRanges") or ())
            if _version(cidr) == family
        ),
        "affinity_seconds": int(affinity.get("timeoutSeconds") or DEFAULT_AFFINITY)
        if spec.get("sessionAffinity") == "ClientIP"
        else 0,
        "health_check_node_port": int(spec.get("healthCheckNodePort") or 0),
        "internal_local": spec.get("internalTrafficPolicy") == "Local",
        "external_local": spec.get("externalTrafficPolicy") == "Local",
    }


def _port(service: Object, port: Object, cluster_ip: str, common: dict[str, Any]) -> ServicePort:
    metadata = service["metadata"]
    return ServicePort(
        namespace=metadata["namespace"],
        service=metadata["name"],
        port_name=port.get("name") or "",
        protocol=_protocol(port.get("protocol")),
        cluster_ip=cluster_ip,
        port=_number(port.get("port"), "spec.ports.port"),
        node_port=int(port.get("nodePort") or 0),
        **common,
    )


def backends(piece: Object, family: int = 4) -> dict[tuple[str, str], list[Backend]]:
    """What an EndpointSlice offers, by (port name, protocol)."""
    if piece.get("addressType") != f"IPv{family}":
        return {}
    found: dict[tuple[str, str], list[Backend]] = {}
    for port in piece.get("ports") or ():
        if port.get("port") is None:
            continue
        key = (port.get("name") or "", _protocol(port.get("protocol")).value)
        number = _number(port["port"], "ports.port")
        found[key] = [_backend(endpoint, number, family) for endpoint in piece.get("endpoints") or ()]
    return found


def _backend(endpoint: Object, port: int, family: int) -> Backend:
    addresses = endpoint.get("addresses") or ()
    if not addresses or _version(addresses[0]) != family:
        raise Malformed(f"an endpoint has no IPv{family} address, but {list(addresses)}")
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False
    hints = (endpoint.get("hints") or {}).get("forZones") or ()
    return Backend(
        ip=str(ip_address(addresses[0])),
        port=port,
        node=endpoint.get("nodeName") or "",
        ready=ready,
        serving=conditions.get("serving", ready) is not False,
        terminating=bool(conditions.get("terminating")),
        zones=frozenset(hint["name"] for hint in hints),
    )


def _protocol(text: str | None) -> Protocol:
    try:
        return Protocol(text or "TCP")
    except ValueError:
        raise Malformed(f"protocol {text!r} is none of TCP, UDP, SCTP") from None


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or not 0 < value < 65536:
        raise Malformed(f"{where} {value!r} is not a port number")
    return value


def _version(text: str) -> int:
    try:
        return ip_network(text, strict=False).version
    except (ValueError, TypeError):
        raise Malformed(f"{text!r} is not an address") from None


def _cidr(text: str) -> str:
    return str(text).strip()
