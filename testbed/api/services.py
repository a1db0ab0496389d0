"""Services: defaults and validation, as k8s.io/kubernetes `pkg/apis/core` and `pkg/registry/core/service`."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from testbed.api import dual_stack, rules
from testbed.api.rules import Errors
from testbed.api.status import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
NODE_PORT_TYPES = ("NodePort", "LoadBalancer")
AFFINITIES = ("ClientIP", "None")
POLICIES = ("Cluster", "Local")
LONGEST_AFFINITY = 86_400


def has_address(spec: Object) -> bool:
    """Whether a Service of this kind has a ClusterIP that is an address."""
    return spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None"


def defaults(service: Object) -> None:
    spec = service.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
    elif affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports") or ():
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in NODE_PORT_TYPES or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec.get("clusterIP") in ("", None):
        spec.pop("clusterIP", None)
    if not spec.get("clusterIPs"):
        spec.pop("clusterIPs", None)
    if "clusterIP" in spec:
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
    elif "clusterIPs" in spec:
        spec["clusterIP"] = spec["clusterIPs"][0]


def carry_over(service: Object, old: Object) -> None:
    """What an update leaves out and was given out before stays; what its new type cannot have goes."""
    spec, before = service["spec"], old["spec"]
    kind = spec.get("type")
    if kind in NODE_PORT_TYPES and before.get("type") in NODE_PORT_TYPES:
        known = {(port["protocol"], port["port"]): port.get("nodePort") for port in before.get("ports") or ()}
        asked = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            number = known.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and number and number not in asked:
                port["nodePort"] = number
    _drop_what_the_type_lost(spec, before)


def _drop_what_the_type_lost(spec: Object, before: Object) -> None:
    """With a type go the fields that were given out for it and that the user did not change."""
    kind, was = spec.get("type"), before.get("type")
    if kind == was:
        return
    if kind == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(field) == before.get(field):
                spec.pop(field, None)
    if was in NODE_PORT_TYPES and kind not in NODE_PORT_TYPES:
        given = {port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in given:
                port.pop("nodePort", None)
        if not spec.get("externalIPs") and spec.get("externalTrafficPolicy") == before.get(
            "externalTrafficPolicy"
        ):
            spec.pop("externalTrafficPolicy", None)
    if was == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass"):
            if spec.get(field) == before.get(field):
                spec.pop(field, None)


def validate(service: Object, old: Object | None) -> Errors:
    spec = service["spec"]
    errors = _type_errors(spec)
    errors += _ports_errors(spec)
    errors += rules.labels(spec.get("selector"), "spec.selector")
    errors += _policy_errors(spec)
    errors += _cluster_ip_errors(spec)
    for at, text in enumerate(spec.get("externalIPs") or ()):
        errors += rules.address(text, f"spec.externalIPs[{at}]")
    errors += _source_range_errors(spec)
    health_port = spec.get("healthCheckNodePort")
    if health_port:
        errors += rules.port_number(health_port, "spec.healthCheckNodePort")
    return errors


def _type_errors(spec: Object) -> Errors:
    kind = spec["type"]
    if kind not in TYPES:
        return [not_supported("spec.type", kind, TYPES)]
    if kind == "ExternalName":
        name = spec.get("externalName")
        if not name:
            return [required("spec.externalName")]
        wrong = rules.dns_subdomain(str(name).removesuffix("."))
        return [invalid_value("spec.externalName", name, wrong)] if wrong else []
    return []


def _cluster_ip_errors(spec: Object) -> Errors:
    addresses = spec.get("clusterIPs") or []
    if spec["type"] == "ExternalName":
        told = "may not be set when `type` is 'ExternalName'"
        return [forbidden_field("spec.clusterIPs", told)] if addresses else []
    errors: Errors = []
    if addresses and spec.get("clusterIP") != addresses[0]:
        told = "first value must match `clusterIP`"
        errors.append(invalid_value("spec.clusterIPs", addresses, told))
    if "None" in addresses:
        if len(addresses) > 1:
            errors.append(
                invalid_value("spec.clusterIPs", addresses, "'None' must be the first and only value")
            )
        if spec["type"] != "ClusterIP":
            told = f"may not be set to 'None' for {spec['type']} services"
            errors.append(invalid_value("spec.clusterIPs[0]", "None", told))
        return errors
    for at, text in enumerate(addresses):
        errors += rules.address(text, f"spec.clusterIPs[{at}]")
    return errors


def _ports_errors(spec: Object) -> Errors:
    ports = spec.get("ports") or []
    if not ports:
        return [required("spec.ports")] if has_address(spec) else []
    errors: Errors = []
    for at, port in enumerate(ports):
        errors += _port_errors(port, f"spec.ports[{at}]", spec["type"], single=len(ports) == 1)
    names = [(f"spec.ports[{at}].name", port["name"]) for at, port in enumerate(ports) if port.get("name")]
    errors += rules.unique(names)
    errors += _repeated(ports, "port", "")
    errors += _repeated(ports, "nodePort", ".nodePort")
    return errors


def _repeated(ports: list[Object], field: str, suffix: str) -> Errors:
    seen: set[Any] = set()
    errors: Errors = []
    for at, port in enumerate(ports):
        number, protocol = port.get(field), port.get("protocol")
        if number and (number, protocol) in seen:
            shown = _go_port(number if field == "port" else 0, protocol, number if field == "nodePort" else 0)
            errors.append(
                FieldError(f"spec.ports[{at}]{suffix}", "FieldValueDuplicate", f"Duplicate value: {shown}")
            )
        seen.add((number, protocol))
    return errors


def _go_port(port: int, protocol: Any, node_port: int) -> str:
    """A ServicePort as Go's %#v shows it, with the fields that validation compares."""
    return (
        f'core.ServicePort{{Name:"", Protocol:"{protocol}", AppProtocol:(*string)(nil), Port:{port}, '
        f'TargetPort:intstr.IntOrString{{Type:0, IntVal:0, StrVal:""}}, NodePort:{node_port}}}'
    )


def _port_errors(port: Object, place: str, kind: str, *, single: bool) -> Errors:
    errors: Errors = []
    if not port.get("name"):
        if not single:
            errors.append(required(f"{place}.name"))
    elif wrong := rules.dns_label(str(port["name"])):
        errors.append(invalid_value(f"{place}.name", port["name"], wrong))
    errors += rules.port_number(port.get("port", 0), f"{place}.port")
    errors += rules.protocol(port.get("protocol"), f"{place}.protocol")
    target = port.get("targetPort")
    if isinstance(target, str):
        errors += rules.port_name(target, f"{place}.targetPort")
    elif target != port.get("port"):
        errors += rules.port_number(target, f"{place}.targetPort")
    node_port = port.get("nodePort")
    if node_port and kind not in NODE_PORT_TYPES:
        errors.append(forbidden_field(f"{place}.nodePort", f"may not be used when `type` is '{kind}'"))
    elif node_port and not isinstance(node_port, int):
        errors.append(invalid_value(f"{place}.nodePort", node_port, "must be a number"))
    return errors


def _policy_errors(spec: Object) -> Errors:
    errors: Errors = []
    for field, known in (
        ("sessionAffinity", AFFINITIES),
        ("internalTrafficPolicy", POLICIES),
        ("externalTrafficPolicy", POLICIES),
        ("ipFamilyPolicy", dual_stack.POLICIES),
    ):
        if spec.get(field) and spec[field] not in known:
            errors.append(not_supported(f"spec.{field}", spec[field], known))
    for at, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in dual_stack.FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{at}]", family, dual_stack.FAMILIES))
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not (isinstance(timeout, int) and 0 < timeout <= LONGEST_AFFINITY):
        place = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        told = f"must be greater than 0 and less than {LONGEST_AFFINITY}"
        errors.append(invalid_value(place, timeout, told))
    outside = spec["type"] in NODE_PORT_TYPES or (spec["type"] == "ClusterIP" and spec.get("externalIPs"))
    if spec.get("externalTrafficPolicy") and not outside:
        told = "may only be set for externally-accessible services"
        errors.append(invalid_value("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], told))
    return errors


def _source_range_errors(spec: Object) -> Errors:
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and spec["type"] != "LoadBalancer":
        told = "may only be used when `type` is 'LoadBalancer'"
        return [forbidden_field("spec.loadBalancerSourceRanges", told)]
    errors: Errors = []
    for at, text in enumerate(ranges):
        try:
            ip_network(str(text).strip(), strict=False)
        except ValueError:
            told = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(invalid_value(f"spec.loadBalancerSourceRanges[{at}]", text, told))
    return errors
