"""Rules that many kinds share: names, labels, ports, selectors. Each returns the errors it found.

Wording follows apimachinery `pkg/util/validation` and `pkg/apis/core/validation`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from typing import Any

from testbed.api import cells
from testbed.api.status import FieldError, duplicate, invalid_value, not_supported, required

Object = dict[str, Any]
Errors = list[FieldError]
NameRule = Callable[[str], str]
"""What is wrong with a name, or ""."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9]|-(?!-))*(?<!-)")
PROTOCOLS = ("SCTP", "TCP", "UDP")

_ALNUM = "must consist of lower case alphanumeric characters"
_LABEL_TOLD = (
    f"a lowercase RFC 1123 label {_ALNUM} or '-', and must start and end with an alphanumeric character "
    "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TOLD = (
    f"a DNS-1035 label {_ALNUM} or '-', start with an alphabetic character, and end with an alphanumeric "
    "character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TOLD = (
    f"a lowercase RFC 1123 subdomain {_ALNUM}, '-' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUALIFIED_TOLD = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TOLD = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_NOT_AN_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def _limited(text: str, pattern: re.Pattern[str], limit: int, told: str) -> str:
    if len(text) > limit:
        return f"must be no more than {limit} characters"
    return "" if pattern.fullmatch(text) else told


def dns_label(name: str) -> str:
    return _limited(name, _LABEL, 63, _LABEL_TOLD)


def dns_1035_label(name: str) -> str:
    return _limited(name, _LABEL_1035, 63, _LABEL_1035_TOLD)


def dns_subdomain(name: str) -> str:
    return _limited(name, _SUBDOMAIN, 253, _SUBDOMAIN_TOLD)


def path_segment(name: str) -> str:
    """The loose rule of kinds that no DNS name is made of (RBAC)."""
    return "may not contain '/' or '%'" if set(name) & set("/%") or name in (".", "..") else ""


def qualified_name(name: str) -> str:
    """A label key: `[prefix/]name`."""
    prefix, slash, rest = name.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return f"prefix part {dns_subdomain(prefix) or 'must be non-empty'}"
    return _limited(rest, _QUALIFIED, 63, _QUALIFIED_TOLD)


def metadata(meta: Object, name_rule: NameRule) -> Errors:
    """Name, labels, annotations, owners of any object."""
    errors: Errors = []
    name, prefix = meta.get("name"), meta.get("generateName")
    if prefix and not isinstance(prefix, str):
        errors.append(invalid_value("metadata.generateName", prefix, "must be a string"))
    if not name or not isinstance(name, str):
        errors.append(required("metadata.name", "name or generateName is required"))
    elif wrong := name_rule(name):
        errors.append(invalid_value("metadata.name", name, wrong))
    errors += labels(meta.get("labels"), "metadata.labels")
    errors += _annotations(meta.get("annotations"))
    finalizers = meta.get("finalizers") or []
    if not isinstance(finalizers, list) or not all(isinstance(each, str) for each in finalizers):
        errors.append(invalid_value("metadata.finalizers", finalizers, "must be a list of strings"))
    for at, owner in enumerate(meta.get("ownerReferences") or ()):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                errors.append(required(f"metadata.ownerReferences[{at}].{key}"))
    return errors


def labels(value: Any, field: str) -> Errors:
    if not isinstance(value or {}, dict):
        return [invalid_value(field, value, "must be a map of strings")]
    errors: Errors = []
    for key, text in (value or {}).items():
        if wrong := qualified_name(key):
            errors.append(invalid_value(field, key, wrong))
        if not isinstance(text, str):
            errors.append(invalid_value(field, text, "must be a string"))
        elif wrong := _limited(text, _VALUE, 63, _VALUE_TOLD):
            errors.append(invalid_value(field, text, wrong))
    return errors


def _annotations(value: Any) -> Errors:
    field = "metadata.annotations"
    if not isinstance(value or {}, dict):
        return [invalid_value(field, value, "must be a map of strings")]
    errors = [
        invalid_value(field, key, wrong) for key in value or {} if (wrong := qualified_name(key.lower()))
    ]
    for text in (value or {}).values():
        if not isinstance(text, str):
            errors.append(invalid_value(field, text, "must be a string"))
    return errors


def port_number(value: Any, field: str) -> Errors:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return []
    return [invalid_value(field, value, "must be between 1 and 65535, inclusive")]


def port_name(value: Any, field: str) -> Errors:
    """An IANA service name: what a named targetPort may be."""
    if not isinstance(value, str) or not value:
        return [invalid_value(field, value, "must be a string")]
    if len(value) > 15:
        return [invalid_value(field, value, "must be no more than 15 characters")]
    if not _PORT_NAME.fullmatch(value):
        told = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
        return [invalid_value(field, value, told)]
    if value.replace("-", "").isdecimal():
        return [invalid_value(field, value, "must contain at least one letter (a-z)")]
    return []


def protocol(value: Any, field: str) -> Errors:
    return [] if value in PROTOCOLS else [not_supported(field, value, PROTOCOLS)]


def packed(value: Any) -> bytes:
    """An IP address as 4 or 16 bytes; none for what is no address. A tenth of the cost of `ipaddress`."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, value)
        except (OSError, TypeError, ValueError):
            continue
    return b""


def address(value: Any, field: str) -> Errors:
    return [] if packed(value) else [invalid_value(field, value, _NOT_AN_ADDRESS)]


def unique(values: Iterable[tuple[str, Any]]) -> Errors:
    """Errors for (field, value) pairs whose value came up before."""
    seen: set[Any] = set()
    errors: Errors = []
    for field, value in values:
        if value in seen:
            errors.append(duplicate(field, value))
        seen.add(value)
    return errors


def unchanged(obj: Object, old: Object | None, *paths: str) -> Errors:
    """Errors for fields ("spec.selector") that are not what they were."""
    if old is None:
        return []
    errors: Errors = []
    for path in paths:
        was, now = (cells.at(path, None)(each) for each in (old, obj))
        if was != now:
            errors.append(invalid_value(path, now, "field is immutable"))
    return errors
