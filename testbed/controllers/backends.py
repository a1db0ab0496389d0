"""What a Service's selector finds: the Pods behind it, with ports resolved and their condition. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from testbed.model.conditions import holds

Object = dict[str, Any]

PREFER_SAME_NODE = "PreferSameNode"
ZONAL = ("PreferClose", "PreferSameZone", PREFER_SAME_NODE)
"""Values of trafficDistribution that keep to a zone; the last one only when the node has no endpoint."""


def selects(service: Object, pod: Object) -> bool:
    """Whether the Service's selector matches; one without a selector selects nothing."""
    selector = service["spec"].get("selector")
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def families(service: Object) -> list[str]:
    """The EndpointSlice address types the Service needs."""
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def address(pod: Object, family: str) -> str:
    """The Pod's address of the family, "" if it has none (yet)."""
    status = pod.get("status") or {}
    found = [each["ip"] for each in status.get("podIPs") or ()] or [status.get("podIP") or ""]
    return next((ip for ip in found if ip and f"IPv{ip_address(ip).version}" == family), "")


def may_serve(pod: Object) -> bool:
    """Whether the Pod has an address to be listed and has not finished."""
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def target_port(port: Object, pod: Object) -> int | None:
    """The Pod's port number for a Service port: its number, or that of the container port of its name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for offered in container.get("ports") or ():
            same_protocol = offered.get("protocol", "TCP") == port.get("protocol", "TCP")
            if offered.get("name") == target and same_protocol:
                return int(offered["containerPort"])
    return None


def ports(service: Object, pod: Object) -> list[Object]:
    """The ports of the Service at this Pod, as EndpointSlices list them; unresolvable names are left out."""
    listed = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            entry = {
                "name": port.get("name", ""),
                "port": number,
                "protocol": port.get("protocol", "TCP"),
            }
            if port.get("appProtocol"):
                entry["appProtocol"] = port["appProtocol"]
            listed.append(entry)
    return listed


def endpoint(service: Object, pod: Object, family: str, zones: Mapping[str, str]) -> Object:
    """The Pod as an endpoint of a slice. `zones`: zone by node. Conditions as KEP-1672 defines them."""
    ready, terminating = holds(pod, "Ready"), bool(pod["metadata"].get("deletionTimestamp"))
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    entry: Object = {
        "addresses": [address(pod, family)],
        "conditions": {
            "ready": published or (ready and not terminating),
            "serving": published or ready,
            "terminating": terminating,
        },
        "targetRef": target_ref(pod),
    }
    node = pod["spec"].get("nodeName")
    if node:
        entry["nodeName"] = node
        if zones.get(node):
            entry["zone"] = zones[node]
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        entry["hostname"] = pod["spec"]["hostname"]
    if hinted := hints(service, entry):
        entry["hints"] = hinted
    return entry


def hints(service: Object, endpoint: Object) -> Object:
    """Who should use the endpoint, by `spec.trafficDistribution` (KEP-4444, KEP-3015): its zone, its node."""
    distribution, zone = service["spec"].get("trafficDistribution"), endpoint.get("zone")
    node = endpoint.get("nodeName")
    made: Object = {}
    if distribution in ZONAL and zone:
        made["forZones"] = [{"name": zone}]
    if distribution == PREFER_SAME_NODE and node:
        made["forNodes"] = [{"name": node}]
    return made


def target_ref(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def by_ports(service: Object, pods: Sequence[Object]) -> list[tuple[list[Object], list[Object]]]:
    """Pods grouped by the ports they serve, `(ports, pods)`: a named port may differ from Pod to Pod."""
    groups: dict[str, tuple[list[Object], list[Object]]] = {}
    for pod in pods:
        served = ports(service, pod)
        if served or not service["spec"].get("ports"):
            groups.setdefault(json.dumps(served), (served, []))[1].append(pod)
    return list(groups.values())


def subsets(service: Object, pods: Sequence[Object]) -> list[Object]:
    """The subsets of an Endpoints object. Pods on their way out are not in it."""
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    family = families(service)[0]
    alive = [pod for pod in pods if published or not pod["metadata"].get("deletionTimestamp")]
    made = []
    for served, members in by_ports(service, [pod for pod in alive if address(pod, family)]):
        lists: Object = {"addresses": [], "notReadyAddresses": []}
        for pod in sorted(members, key=lambda pod: ip_address(address(pod, family))):
            entry = {"ip": address(pod, family), "targetRef": target_ref(pod)}
            if pod["spec"].get("nodeName"):
                entry["nodeName"] = pod["spec"]["nodeName"]
            if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
                entry["hostname"] = pod["spec"]["hostname"]
            lists["addresses" if published or holds(pod, "Ready") else "notReadyAddresses"].append(entry)
        subset = {name: entries for name, entries in lists.items() if entries}
        # an Endpoints port without a name has no name field, unlike that of a slice
        listed = [{k: v for k, v in port.items() if v != ""} for port in served]
        made.append(subset | ({"ports": listed} if listed else {}))
    return made
