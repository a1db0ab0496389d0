"""Kinds of networking.k8s.io: defaults, validation (pkg/apis/networking/validation), columns."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from testbed.api import rules
from testbed.api.cells import NONE, Column, at
from testbed.api.columns import AGE, NAME
from testbed.api.rules import Errors
from testbed.api.status import invalid_value, not_supported, required

Object = dict[str, Any]

PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def _hosts(ingress: Object) -> str:
    hosts = [rule["host"] for rule in ingress["spec"].get("rules") or () if rule.get("host")]
    return ",".join(hosts) or "*"


def _addresses(ingress: Object) -> str:
    points = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(each.get("ip") or each.get("hostname") or "" for each in points)


INGRESS_COLUMNS = (
    NAME,
    Column("Class", at("spec.ingressClassName", NONE)),
    Column("Hosts", _hosts),
    Column("Address", _addresses),
    Column("Ports", lambda ingress: "80, 443" if ingress["spec"].get("tls") else "80"),
    AGE,
)
CLASS_COLUMNS = (
    NAME,
    Column("Controller", at("spec.controller")),
    Column("Parameters", at("spec.parameters.name", NONE)),
    AGE,
)
ADDRESS_COLUMNS = (
    NAME,
    Column(
        "ParentRef",
        lambda obj: "/".join(obj["spec"]["parentRef"][k] for k in ("resource", "namespace", "name")),
    ),
    AGE,
)
CIDR_COLUMNS = (NAME, Column("CIDRs", lambda obj: ",".join(obj["spec"].get("cidrs") or ())), AGE)


_ADDRESS_LABELS = {
    family: {
        "ipaddress.kubernetes.io/ip-family": family,
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    for family in ("IPv4", "IPv6")
}


def addresses_of(service: Object) -> Iterator[Object]:
    """The IPAddresses that are there because a Service has them (KEP-1880)."""
    metadata = service["metadata"]
    for text in service["spec"].get("clusterIPs") or ():
        if text == "None":
            continue
        owner = {
            "group": "",
            "resource": "services",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
        }
        yield {
            "kind": "IPAddress",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {
                "name": text,
                "uid": str(uuid.uuid5(uuid.UUID(metadata["uid"]), text)),
                "creationTimestamp": metadata["creationTimestamp"],
                "labels": _ADDRESS_LABELS["IPv6" if ":" in text else "IPv4"],
            },
            "spec": {"parentRef": owner},
        }


def ingress_errors(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    errors: Errors = []
    if not spec.get("rules") and not spec.get("defaultBackend"):
        errors.append(invalid_value("spec", {}, "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend"):
        errors += _backend_errors(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(spec.get("rules") or ()):
        place = f"spec.rules[{index}]"
        host = rule.get("host")
        if host and (wrong := rules.dns_subdomain(host.removeprefix("*."))):
            errors.append(invalid_value(f"{place}.host", host, wrong))
        for number, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            here = f"{place}.http.paths[{number}]"
            if not path.get("pathType"):
                errors.append(required(f"{here}.pathType", "pathType must be specified"))
            elif path["pathType"] not in PATH_TYPES:
                errors.append(not_supported(f"{here}.pathType", path["pathType"], PATH_TYPES))
            elif path["pathType"] != "ImplementationSpecific" and not str(path.get("path")).startswith("/"):
                errors.append(invalid_value(f"{here}.path", path.get("path"), "must be an absolute path"))
            errors += _backend_errors(path.get("backend") or {}, f"{here}.backend")
    return errors


def class_errors(obj: Object, old: Object | None) -> Errors:
    missing = [] if (obj.get("spec") or {}).get("controller") else [required("spec.controller")]
    return missing + rules.unchanged(obj, old, "spec.controller")


def _backend_errors(backend: Object, place: str) -> Errors:
    service = backend.get("service") or {}
    if not service and not backend.get("resource"):
        return [required(place, "must specify a service or a resource")]
    if service and not service.get("name"):
        return [required(f"{place}.service.name")]
    port = service.get("port") or {}
    if service and bool(port.get("name")) == bool(port.get("number")):
        return [required(f"{place}.service.port", "port name or number is required")]
    return rules.port_number(port["number"], f"{place}.service.port.number") if port.get("number") else []
