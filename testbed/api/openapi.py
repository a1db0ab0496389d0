"""OpenAPI as far as clients need it: which kinds there are, and that the server itself checks fields.

kubectl looks here whether a kind's PATCH knows `fieldValidation`; then it leaves the checking to the server.
Where it finds no strategic-merge schema it uses the one that is compiled into it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from testbed.api.discovery import VERSION, group_versions
from testbed.api.registry import KINDS, Kind

Object = dict[str, Any]

V2_PROTOBUF_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_EMPTY_PROTOBUF = b"\x0a\x032.0"
"""The smallest document in the protobuf form that clients ask for: swagger "2.0", no definitions."""

_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def v2() -> Object:
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {},
        "definitions": {},
    }


def root() -> Object:
    """The answer of /openapi/v3: where each group version's document is."""
    paths = {}
    for group, versions in group_versions().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(orjson.dumps(document(group, version))).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def document(group: str, version: str) -> Object | None:
    """The answer of /openapi/v3/api/v1 and /openapi/v3/apis/GROUP/VERSION."""
    members = [kind for kind in KINDS if (kind.resource.group, kind.resource.version) == (group, version)]
    if not members:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {_path(kind): _operations(kind) for kind in members},
        "components": {"schemas": {_schema_name(kind): _schema(kind) for kind in members}},
    }


def _path(kind: Kind) -> str:
    return kind.resource.path("{namespace}", "{name}")


def _schema_name(kind: Kind) -> str:
    group = kind.resource.group or "core"
    return f"io.k8s.api.{group.split('.')[0]}.{kind.resource.version}.{kind.resource.kind}"


def _identity(kind: Kind) -> Object:
    return {
        "group": kind.resource.group,
        "version": kind.resource.version,
        "kind": kind.resource.kind,
    }


def _schema(kind: Kind) -> Object:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        },
        "x-kubernetes-group-version-kind": [_identity(kind)],
    }


def _operations(kind: Kind) -> Object:
    reference = {"$ref": f"#/components/schemas/{_schema_name(kind)}"}
    answer = {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}}
    return {
        "get": {
            "responses": answer,
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": _identity(kind),
        },
        "patch": {
            "parameters": _PARAMETERS,
            "responses": answer,
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": _identity(kind),
        },
    }
