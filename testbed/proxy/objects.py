"""What the agent reads out of API objects. Half-built ones are normal: such a one raises `Malformed`.

Field meanings: kubernetes.io/docs/reference/kubernetes-api/service-resources.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from testbed.model.service import Protocol, ServicePort

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
DEFAULT_AFFINITY, MOST_AFFINITY = 10800, 86400
"""Seconds that ClientIP affinity lasts unless the Service says otherwise; and at most."""
BROADCAST = "255.255.255.255"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123. Names go into comments of rules, where a quote or a line break would be another rule."""


class Malformed(ValueError):
    """An object the agent cannot use, and why."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of an EndpointSlice, and the conditions it is in."""

    ip: str
    node: str
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    """Zones that should use it (hints); empty: no hint."""
    nodes: frozenset[str] = frozenset()
    """The same of nodes (KEP-3015, PreferSameNode)."""


@dataclass(frozen=True)
class Slice:
    """An EndpointSlice: each of its endpoints serves on each of its ports, by (port name, protocol)."""

    backends: tuple[Backend, ...] = ()
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.backends and self.ports)


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
    wanted = [ip for ip in addresses if ip and ip != "None"]
    cluster_ip = next(iter(_of_family(wanted, family)), "")
    if not cluster_ip:
        return []
    common = _common(service, family, cluster_ip)
    ports = [_port(service, port, cluster_ip, common) for port in spec.get("ports") or ()]
    _each_once("port", [(one.protocol, one.port) for one in ports])
    _each_once("port name", [(one.protocol, one.port_name) for one in ports])
    _each_once("node port", [(one.protocol, one.node_port) for one in ports if one.node_port])
    return ports


def _each_once(what: str, found: Iterable[tuple[Protocol, int | str]]) -> None:
    for (protocol, value), times in Counter(found).most_common(1):
        if times > 1:
            raise Malformed(f"{what} {value!r} of {protocol} is there {times} times")


def _common(service: Object, family: int, cluster_ip: str) -> dict[str, Any]:
    """The fields that all ports of a Service share."""
    spec = service["spec"]
    affinity = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds = affinity.get("timeoutSeconds") or DEFAULT_AFFINITY
    if not isinstance(seconds, int) or not 0 < seconds <= MOST_AFFINITY:
        raise Malformed(f"timeoutSeconds {seconds!r} is not between 1 and {MOST_AFFINITY}")
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    own = [one["ip"] for one in ingress if one.get("ip") and one.get("ipMode", "VIP") == "VIP"]
    vips = tuple(ip for ip in _of_family(own, family) if ip != cluster_ip)
    return {
        # one that is a load balancer's too is guarded by its source ranges
        "external_ips": tuple(
            ip for ip in _of_family(spec.get("externalIPs") or (), family) if ip not in (cluster_ip, *vips)
        ),
        "load_balancer_ips": vips,
        "source_ranges": _networks(spec.get("loadBalancerSourceRanges") or (), family),
        "affinity_seconds": seconds if spec.get("sessionAffinity") == "ClientIP" else 0,
        "health_check_node_port": _health_check_port(spec),
        "internal_local": spec.get("internalTrafficPolicy") == "Local",
        "external_local": spec.get("externalTrafficPolicy") == "Local",
    }


def _health_check_port(spec: Object) -> int:
    """Only a load balancer that sends to nodes with an endpoint asks for it."""
    asked = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return _optional(spec.get("healthCheckNodePort"), "spec.healthCheckNodePort") if asked else 0


def _port(service: Object, port: Object, cluster_ip: str, common: dict[str, Any]) -> ServicePort:
    metadata = service["metadata"]
    return ServicePort(
        namespace=_name(metadata["namespace"]),
        service=_name(metadata["name"]),
        port_name=_name(port["name"]) if port.get("name") else "",
        protocol=_protocol(port.get("protocol")),
        cluster_ip=cluster_ip,
        port=_number(port.get("port"), "spec.ports.port"),
        node_port=_optional(port.get("nodePort"), "spec.ports.nodePort"),
        **common,
    )


def slice_of(piece: Object, _: int = 4) -> tuple[str, str] | None:
    """The key of the Service that an EndpointSlice belongs to, and the slice's name; None: not ours."""
    metadata = piece["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME)
    if not service or ignored(piece):
        return None
    return f"{metadata['namespace']}/{service}", str(metadata["name"])


def zone_of(node: Object, _: int = 4) -> str:
    return str((node["metadata"].get("labels") or {}).get(ZONE) or "")


def address_of(node: Object, family: int = 4) -> str:
    """The Node's address of a family, an internal one if it has any; "" if it has none."""
    given = (node.get("status") or {}).get("addresses") or ()
    for kind in ("InternalIP", "ExternalIP"):
        for one in given:
            if one.get("type") == kind and ip_address(one["address"]).version == family:
                return str(one["address"])
    return ""


def read_slice(piece: Object, family: int = 4) -> Slice:
    """What an EndpointSlice offers. An endpoint that makes no sense is left out."""
    if piece.get("addressType") != f"IPv{family}":
        return Slice()
    endpoints = [_known(piece, endpoint, family) for endpoint in piece.get("endpoints") or ()]
    ports = {
        (port.get("name") or "", _protocol(port.get("protocol")).value): _number(port["port"], "ports.port")
        for port in piece.get("ports") or ()
        if port.get("port") is not None
    }
    return Slice(tuple(one for one in endpoints if one), ports)


def _known(piece: Object, endpoint: Object, family: int) -> Backend | None:
    try:
        return _backend(endpoint, family)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        metadata = piece["metadata"]
        log.error(
            "Ignoring EndpointSlice %s/%s's endpoint %s: %s",
            metadata["namespace"],
            metadata["name"],
            endpoint,
            error,
        )
        return None


def _backend(endpoint: Object, family: int) -> Backend:
    """Only the first address counts, as upstream."""
    found = _of_family((endpoint.get("addresses") or ())[:1], family)
    if not found:
        raise Malformed(f"it has no IPv{family} address")
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False
    hints = endpoint.get("hints") or {}
    return Backend(
        ip=found[0],
        node=str(endpoint.get("nodeName") or ""),
        ready=ready,
        serving=conditions.get("serving", ready) is not False,
        terminating=bool(conditions.get("terminating")),
        zones=_hinted(hints, "forZones"),
        nodes=_hinted(hints, "forNodes"),
    )


def _hinted(hints: Object, field: str) -> frozenset[str]:
    return frozenset(str(hint["name"]) for hint in hints.get(field) or ())


def _protocol(text: str | None) -> Protocol:
    try:
        return Protocol(text or "TCP")
    except ValueError:
        raise Malformed(f"protocol {text!r} is none of TCP, UDP, SCTP") from None


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise Malformed(f"{where} {value!r} is not a port number")
    return value


def _optional(value: Any, where: str) -> int:
    return _number(value, where) if value else 0


def _name(text: Any) -> str:
    if not isinstance(text, str) or not _LABEL.fullmatch(text):
        raise Malformed(f"{text!r} is not a name")
    return text


def _of_family(texts: Iterable[Any], family: int) -> tuple[str, ...]:
    """Those addresses that are of the family, each once. Raises Malformed for what no host can have."""
    found = []
    for text in texts:
        try:
            ip = ip_address(text) if isinstance(text, str) else None
        except ValueError:
            ip = None
        if ip is None or "%" in str(ip):
            raise Malformed(f"{text!r} is not an address")
        if ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_multicast or str(ip) == BROADCAST:
            raise Malformed(f"{text!r} cannot be an address of a Service or an endpoint")
        if ip.version == family:
            found.append(str(ip))
    return tuple(dict.fromkeys(found))


def _networks(texts: Iterable[Any], family: int) -> tuple[str, ...]:
    """Those networks that are of the family, without host bits, each once."""
    found = []
    for text in texts:
        try:
            network = ip_network(str(text).strip(), strict=False)
        except ValueError:
            raise Malformed(f"{text!r} is not a network") from None
        if network.version == family:
            found.append(str(network))
    return tuple(dict.fromkeys(found))
