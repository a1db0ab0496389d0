"""A container's environment: its own `env`, and the discovery variables of Services older than the Pod."""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from testbed.client import Client, NotFound
from testbed.model import quantity
from testbed.model.resources import SERVICES
from testbed.node.references import Values

Object = dict[str, Any]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def discovery(services: Sequence[Object]) -> dict[str, str]:
    """`{SVC}_SERVICE_HOST`, `_PORT`, and the set of Docker links, for Services with a ClusterIP.

    As the kubelet makes them (pkg/kubelet/envvars).
    """
    found: dict[str, str] = {}
    for service in services:
        host, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or []
        if not host or host == "None" or not ports:
            continue
        name = _variable(service["metadata"]["name"])
        found[f"{name}_SERVICE_HOST"] = host
        found[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        target = f"[{host}]" if ":" in host else host
        for number, port in enumerate(ports):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{target}:{port['port']}"
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_{_variable(port['name'])}"] = str(port["port"])
            if number == 0:
                found[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            found[prefix] = url
            found[f"{prefix}_PROTO"] = protocol.lower()
            found[f"{prefix}_PORT"] = str(port["port"])
            found[f"{prefix}_ADDR"] = host
    return found


def environment(
    pod: Object,
    container: Object,
    facts: Mapping[str, str],
    services: Sequence[Object],
    values: Values = Values(),
) -> dict[str, str]:
    """The whole environment. `facts`: what `field` knows; `values`: what it refers to."""
    built = {
        "PATH": PATH,
        "HOME": "/root",
        **discovery(services),
        "HOSTNAME": facts["HOSTNAME"],
        "POD_NAME": pod["metadata"]["name"],
        "POD_IP": facts["POD_IP"],
        "NODE_NAME": facts["NODE_NAME"],
        **values.whole,
    }
    for entry in container.get("env") or ():
        if "value" in entry or "valueFrom" not in entry:
            built[entry["name"]] = expand(str(entry.get("value") or ""), built)
        elif "fieldRef" in entry["valueFrom"]:
            built[entry["name"]] = field(pod, entry["valueFrom"]["fieldRef"]["fieldPath"], facts)
        elif "resourceFieldRef" in entry["valueFrom"]:
            built[entry["name"]] = resource(container, entry["valueFrom"]["resourceFieldRef"])
        elif entry["name"] in values.single:
            built[entry["name"]] = values.single[entry["name"]]
    return built


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known; `$$(NAME)` is a literal `$(NAME)`."""

    def put(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return known.get(match[1], match[0])

    return re.sub(r"\$?\$\(([-._a-zA-Z0-9]+)\)", put, text)


def field(pod: Object, path: str, facts: Mapping[str, str]) -> str:
    """A field of the downward API; "" where the Pod has none of that name."""
    metadata, spec = pod["metadata"], pod["spec"]
    quoted = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if quoted:
        return str((metadata.get(quoted[1]) or {}).get(quoted[2], ""))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": facts["NODE_NAME"],
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts["POD_IP"],
        "status.podIPs": facts["POD_IPS"],
        "status.hostIP": facts["HOST_IP"],
        "status.hostIPs": facts["HOST_IPS"],
    }
    return str(known.get(path, ""))


def resource(container: Object, reference: Object) -> str:
    """`limits.cpu` and the like of a container, in units of the divisor, rounded up as Kubernetes does.

    A limit that is not set is what the node has.
    """
    kind, _, name = str(reference.get("resource", "")).partition(".")
    given = ((container.get("resources") or {}).get(kind) or {}).get(name)
    if given is None and kind == "limits":
        given = CAPACITY[name]() if name in CAPACITY else 0
    divisor = quantity.parse(reference.get("divisor") or 1) or 1
    return str(math.ceil(quantity.parse(given or 0) / divisor))


CAPACITY = {
    "cpu": lambda: os.cpu_count() or 1,
    "memory": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
}
"""What a node has, in cores and bytes."""


def _variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


class Services:
    """The Services that a Pod's environment names, read when a Pod starts: a watch of all would cost a node
    more than its Pods do when there are thousands of them.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[str, tuple[int, list[Object]]] = {}
        self._lock = asyncio.Lock()

    async def seen_by(self, pod: Object) -> list[Object]:
        """The Services of the Pod's namespace that are older than the Pod, and the API server's own."""
        namespace, linked = pod["metadata"]["namespace"], pod["spec"].get("enableServiceLinks", True)
        services = await self._older(namespace, pod) if linked else []
        if not any(_is_master(service) for service in services):
            services = [*(each for each in await self._older("default", pod) if _is_master(each)), *services]
        return services

    async def _older(self, namespace: str, pod: Object) -> list[Object]:
        version = int(pod["metadata"]["resourceVersion"])
        async with self._lock:
            if namespace not in self._held or self._held[namespace][0] < version:
                try:
                    listing = await self._client.list(SERVICES, namespace)
                except NotFound:
                    return []
                self._held[namespace] = (int(listing.resource_version), listing.items)
        return self._held[namespace][1]


def _is_master(service: Object) -> bool:
    metadata = service["metadata"]
    return (metadata["namespace"], metadata["name"]) == ("default", "kubernetes")
