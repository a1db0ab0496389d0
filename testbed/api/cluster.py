"""The kinds that are neither Pods, what makes them, nor Services: defaults and validation."""

from __future__ import annotations

import base64
import binascii
from ipaddress import ip_address
from typing import Any

from testbed.api import rules
from testbed.api.rules import Errors
from testbed.api.status import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_SPECIAL_FIRST = frozenset({0, 127, 169, *range(224, 240)})
"""First bytes of the IPv4 ranges that are no endpoint's."""
MOST_ENDPOINTS = 1000
"""Endpoints in a slice, at most (KEP-752)."""


def namespace_defaults(obj: Object) -> None:
    labels = obj["metadata"].get("labels") or {}
    obj["metadata"]["labels"] = labels | {"kubernetes.io/metadata.name": obj["metadata"].get("name", "")}


def node_defaults(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("podCIDR"):
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def node_errors(obj: Object, old: Object | None) -> Errors:
    was, now = (old or {}).get("spec", {}).get("podCIDR"), obj["spec"].get("podCIDR")
    if was and was != now:
        return [
            forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
        ]
    return []


def endpoints_errors(obj: Object, old: Object | None) -> Errors:
    errors: Errors = []
    for at, subset in enumerate(obj.get("subsets") or ()):
        place = f"subsets[{at}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(place, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for index, each in enumerate(subset.get(field) or ()):
                errors += _endpoint_address(each.get("ip"), f"{place}.{field}[{index}].ip")
        errors += _endpoint_ports(subset.get("ports") or [], place)
    return errors


def _endpoint_address(text: Any, field: str) -> Errors:
    """Addresses that must never be an endpoint: they would turn the proxy on the node itself."""
    packed = rules.packed(text)
    if not packed:
        return rules.address(text, field)
    if len(packed) == 4 and packed[0] not in _SPECIAL_FIRST:  # nearly all
        return []
    address = ip_address(packed)
    for holds, told in (
        (address.is_unspecified, f"may not be unspecified ({text})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (address.is_multicast, "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
    ):
        if holds:
            return [invalid_value(field, text, told)]
    return []


def _endpoint_ports(ports: list[Object], place: str) -> Errors:
    errors: Errors = []
    for at, port in enumerate(ports):
        here = f"{place}.ports[{at}]"
        if len(ports) > 1 and not port.get("name"):
            errors.append(required(f"{here}.name"))
        errors += rules.port_number(port.get("port"), f"{here}.port")
        errors += rules.protocol(port.get("protocol"), f"{here}.protocol")
    return errors


def slice_errors(obj: Object, old: Object | None) -> Errors:
    kind = obj.get("addressType")
    errors: Errors = []
    if not kind:
        errors.append(required("addressType"))
    elif kind not in ADDRESS_TYPES:
        errors.append(not_supported("addressType", kind, ADDRESS_TYPES))
    errors += rules.unchanged(obj, old, "addressType")
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MOST_ENDPOINTS:
        told = f"Too many: {len(endpoints)}: must have at most {MOST_ENDPOINTS} items"
        errors.append(FieldError("endpoints", "FieldValueTooMany", told))
    for at, endpoint in enumerate(endpoints):
        place = f"endpoints[{at}].addresses"
        if not endpoint.get("addresses"):
            errors.append(required(place, "must contain at least 1 address"))
        for index, text in enumerate(endpoint.get("addresses") or ()):
            errors += _slice_address(kind, text, f"{place}[{index}]")
    for at, port in enumerate(obj.get("ports") or ()):
        if port.get("port") is not None:
            errors += rules.port_number(port["port"], f"ports[{at}].port")
        errors += rules.protocol(port.get("protocol"), f"ports[{at}].protocol")
    named = [(f"ports[{at}].name", port.get("name")) for at, port in enumerate(obj.get("ports") or ())]
    return errors + rules.unique(named)


def _slice_address(kind: Any, text: Any, field: str) -> Errors:
    if kind == "FQDN":
        wrong = rules.dns_subdomain(str(text))
        return [invalid_value(field, text, wrong)] if wrong else []
    errors = _endpoint_address(text, field)
    if not errors and kind in ADDRESS_TYPES and len(rules.packed(text)) != (4 if kind == "IPv4" else 16):
        return [invalid_value(field, text, f"must be an {kind} address")]
    return errors


def config_map_errors(obj: Object, old: Object | None) -> Errors:
    errors: Errors = []
    for field in ("data", "binaryData"):
        for key in obj.get(field) or ():
            if not key.replace("-", "a").replace("_", "a").replace(".", "a").isalnum():
                told = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                errors.append(invalid_value(f"{field}[{key}]", key, told))
    return errors + _immutable(obj, old, ("data", "binaryData"))


def secret_defaults(obj: Object) -> None:
    """`stringData` is write-only: it becomes `data`."""
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(text).encode()).decode()


def secret_errors(obj: Object, old: Object | None) -> Errors:
    errors: Errors = []
    for key, text in (obj.get("data") or {}).items():
        try:
            base64.b64decode(text or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            errors.append(invalid_value(f"data[{key}]", "<secret contents redacted>", "must be base64"))
    if obj["type"] == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in (obj.get("data") or {}):
                errors.append(required(f"data[{key}]"))
    return errors + rules.unchanged(obj, old, "type") + _immutable(obj, old, ("data",))


def _immutable(obj: Object, old: Object | None, fields: tuple[str, ...]) -> Errors:
    if not (old and old.get("immutable")):
        return []
    told = "field is immutable when `immutable` is set"
    errors = [forbidden_field(field, told) for field in fields if obj.get(field) != old.get(field)]
    return errors if obj.get("immutable") else [*errors, forbidden_field("immutable", told)]
