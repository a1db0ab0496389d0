"""Objects in Kubernetes' protobuf form, decoded: what `kubectl create namespace|secret|deployment|…` sends.

The table of fields says which number a field has on the wire (`pb:3`; `pb:3?` is a pointer, kept when empty;
`pb:2.1` stands in a message of its own), as far as kubectl's own create commands need. All else is refused,
and clients send JSON instead. Numbers are those of k8s.io/api's `generated.proto`, as is the envelope.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from testbed.api.schema import TYPES, Field, Type, of_kind
from testbed.api.status import StatusError, bad_request, unsupported_media_type

Object = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"


def decode(body: bytes) -> Object:
    """The object in a body. Raises StatusError 400 when it is cut short, 415 for what is not known."""
    if not body.startswith(_MAGIC):
        raise bad_request("the object provided is not in Kubernetes' protobuf form")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        identity = dict(_fields(envelope.get(1, b"")))
        version, kind = (identity.get(number, b"").decode() for number in (1, 2))
        try:
            type = of_kind(version.rpartition("/")[0], kind)
        except KeyError:
            raise _unknown(f"{version} {kind}") from None
        if not _numbers(type.name) or not version.endswith("v1"):
            raise _unknown(f"{version} {kind}")
        return {"apiVersion": version, "kind": kind} | _message(type, envelope.get(2, b""))
    except (IndexError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise bad_request(f"the protobuf object is malformed: {error}") from None


def _unknown(what: str) -> StatusError:
    error = unsupported_media_type(CONTENT_TYPE, ("application/json", "application/yaml"))
    error.message += f" ({what} is not known in protobuf form)"
    return error


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message on the wire: numbers as int, all else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError("it ends inside a field")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise TypeError(f"wire type {tag & 7} in field {tag >> 3}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


@cache
def _numbers(name: str) -> Mapping[int, Field]:
    """The fields of a type by their numbers on the wire."""
    numbered = [field for field in TYPES[name].fields.values() if field.number]
    return {int(field.number.strip("?").partition(".")[0]): field for field in numbered}


def _message(type: Type, data: bytes) -> Object:
    result: Object = {}
    for number, value in _fields(data):
        field = _numbers(type.name).get(number)
        if field:
            inner = field.number.partition(".")[2]
            for each in [value] if not inner else [v for n, v in _fields(value) if n == int(inner)]:
                _take(result, field, each)
        elif value:
            raise _unknown(f"field {number} of {type.go_name}")
    return result


def _take(result: Object, field: Field, value: Any) -> None:
    """Put one field's value where it belongs."""
    if field.shape == "map":
        pair = dict(_fields(value))
        result.setdefault(field.name, {})[pair.get(1, b"").decode()] = _value(field, pair.get(2, b""))
    elif field.shape:
        result.setdefault(field.name, []).append(_value(field, value))
    elif (made := _value(field, value)) or field.type or field.number.endswith("?"):
        result[field.name] = made


def _value(field: Field, value: Any) -> Any:
    return _message(field.type, value) if field.type else _SCALARS[field.form](value)


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    return str(parts.get(3, b"").decode()) if parts.get(1) else int(parts.get(2, 0))


def _time(data: bytes) -> str:
    seconds = dict(_fields(data)).get(1)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": lambda data: data.decode(),
    "bytes": lambda data: base64.b64encode(data).decode(),
    "boolean": bool,
    "int32": lambda value: value - (1 << 64) if value >> 63 else value,
    "int64": lambda value: value - (1 << 64) if value >> 63 else value,
    "IntOrString": _int_or_string,
    "Quantity": lambda data: dict(_fields(data)).get(1, b"").decode(),
    "Time": _time,
}
