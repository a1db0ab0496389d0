"""OpenAPI v2 in the protobuf form that kubectl and client-go ask for (gnostic's `OpenAPIv2.proto`).

Field numbers are that file's; only what Kubernetes' documents have is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson

from testbed.api import openapi

Object = dict[str, Any]

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""With a point where clients write @, which no media type may have."""


@cache
def encoded() -> bytes:
    """The document of `openapi.v2`."""
    document = openapi.v2()
    info = document["info"]
    definitions = (_named(1, name, _schema(each)) for name, each in document["definitions"].items())
    paths = (
        _named(2, path, _bytes(8, _operation(item["patch"]))) for path, item in document["paths"].items()
    )
    return b"".join(
        (
            _text(1, document["swagger"]),
            _bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
            _bytes(8, b"".join(paths)),
            _bytes(9, b"".join(definitions)),
        )
    )


def _operation(operation: Object) -> bytes:
    parameters = _all(_parameter(each) for each in operation["parameters"])
    return parameters + _bytes(9, b"") + _extensions(13, operation)


def _parameter(given: Object) -> bytes:
    """Inside ParametersItem.parameter, non_body_parameter and query_parameter_sub_schema."""
    own = _text(2, given["in"]) + _text(4, given["name"]) + _text(6, given["type"])
    return _bytes(8, _bytes(1, _bytes(2, _bytes(3, own))))


def _schema(schema: Object) -> bytes:
    parts = [
        _text(1, schema.get("$ref", "")),
        _text(2, schema.get("format", "")),
        _text(4, schema.get("description", "")),
        *(_text(19, name) for name in schema.get("required", ())),
    ]
    if "additionalProperties" in schema:
        parts.append(_bytes(21, _bytes(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_bytes(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_bytes(23, _bytes(1, _schema(schema["items"]))))
    if "properties" in schema:
        parts.append(
            _bytes(25, _all(_named(1, name, _schema(each)) for name, each in schema["properties"].items()))
        )
    return _all([*parts, _extensions(31, schema)])


def _extensions(number: int, holder: Object) -> bytes:
    """The `x-…` members, each as YAML (of which JSON is a part)."""
    return _all(
        _named(number, name, _text(2, orjson.dumps(value).decode()))
        for name, value in holder.items()
        if name.startswith("x-")
    )


def _named(number: int, name: str, value: bytes) -> bytes:
    return _bytes(number, _text(1, name) + _bytes(2, value))


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode()) if text else b""


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _all(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
