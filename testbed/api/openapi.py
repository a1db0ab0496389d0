"""OpenAPI: the kinds, their fields and their paths, as `kubectl explain` and other clients read them.

Versions 3 (a document for each group version) and 2 (one for all) say the same; both follow the tables of
kinds and of fields. kubectl looks here, too, whether a kind's PATCH knows `fieldValidation` and `dryRun`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson

from testbed.api.discovery import STREAMS, SUBRESOURCES, VERSION, group_versions, identity, members, spoken
from testbed.api.registry import KINDS, Kind
from testbed.api.schema import SELF, TYPES, Field, Type, of_kind
from testbed.model.resources import Resource

Object = dict[str, Any]

_INFO = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
_SCALARS: dict[str, Object] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "bytes": {"type": "string", "format": "byte"},
    "Time": {"type": "string", "format": "date-time"},
    "MicroTime": {"type": "string", "format": "date-time"},
    "object": {"type": "object"},
}
_UNIONS = {
    # Forms that are a string or something else: their name, what else, their format.
    "IntOrString": ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "integer", "int-or-string"),
    "Quantity": ("io.k8s.apimachinery.pkg.api.resource.Quantity", "number", ""),
}
_WRITING = ("dryRun", "fieldManager", "fieldValidation")
_LISTING = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_DELETING = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_NUMBERS = ("gracePeriodSeconds", "limit", "timeoutSeconds")
_FLAGS = ("allowWatchBookmarks", "orphanDependents", "sendInitialEvents", "watch")
_PATCHES = ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")
_OPERATIONS = {
    # Verb: its method, whether it is of the collection, its query parameters.
    "get": ("get", False, ()),
    "list": ("get", True, _LISTING),
    "create": ("post", True, _WRITING),
    "update": ("put", False, _WRITING),
    "patch": ("patch", False, (*_WRITING, "force")),
    "delete": ("delete", False, _DELETING),
    "deletecollection": ("delete", True, (*_DELETING, "fieldSelector", "labelSelector")),
}


def name_of(type: Type) -> str:
    """`io.k8s.api.core.v1.Service`."""
    package, _, name = type.name.partition(".")
    root = "io.k8s.apimachinery.pkg.apis" if package == "meta" else "io.k8s.api"
    return f"{root}.{package}.v1.{name}"


class Version:
    """How one version of OpenAPI writes schemas."""

    def __init__(self, prefix: str, unions: bool) -> None:
        self._prefix, self._unions = prefix, unions

    def reference(self, type: Type) -> Object:
        return {"$ref": self._prefix + name_of(type)}

    def schema(self, type: Type) -> Object:
        schema: Object = {
            "type": "object",
            "properties": {field.name: self._property(field) for field in type.fields.values()},
        }
        if type.about:
            schema["description"] = type.about
        required = [field.name for field in type.fields.values() if field.required]
        if required:
            schema["required"] = required
        return schema

    def _property(self, field: Field) -> Object:
        inner = field.type
        schema = self.reference(inner) if inner else self._scalar(field.form)
        if field.about and self._unions and "$ref" in schema and not field.shape:
            schema = {"allOf": [schema]}
        elif field.shape:
            element = schema
            name, word = ("object", "additionalProperties") if field.shape == "map" else ("array", "items")
            schema = {"type": name, word: element}
        return schema | ({"description": field.about} if field.about else {}) | dict(_marks(field))

    def _scalar(self, form: str) -> Object:
        return {"$ref": self._prefix + _UNIONS[form][0]} if form in _UNIONS else _SCALARS[form]

    def unions(self) -> Object:
        """The schemas of what is a string or something else."""
        return {
            name: ({"oneOf": [{"type": other}, {"type": "string"}]} if self._unions else {"type": "string"})
            | ({"format": form} if form else {})
            for name, other, form in _UNIONS.values()
        }


def _marks(field: Field) -> Iterator[tuple[str, Any]]:
    """How lists and maps merge."""
    if field.shape in ("list", "set"):
        yield "x-kubernetes-list-type", "map" if field.keys else "set" if field.shape == "set" else "atomic"
    if field.keys:
        yield "x-kubernetes-list-map-keys", list(field.keys)
    if field.atomic:
        yield "x-kubernetes-map-type", "atomic"
    if field.merge_key:
        yield "x-kubernetes-patch-strategy", "merge,retainKeys" if field.retain else "merge"
        if field.merge_key != SELF:
            yield "x-kubernetes-patch-merge-key", field.merge_key
    elif field.retain:
        yield "x-kubernetes-patch-strategy", "retainKeys"


V2 = Version("#/definitions/", unions=False)
V3 = Version("#/components/schemas/", unions=True)


def _type(resource: Resource) -> Type:
    return of_kind(resource.group, resource.kind)


def _objects(kind: Kind) -> Iterator[tuple[str, Type]]:
    """The subresources that take and give objects, and of which type."""
    for name in kind.parts:
        if name not in STREAMS:
            yield name, _type(spoken(kind.resource, name))


def _used(types: list[Type]) -> dict[str, Type]:
    """These types and all that their fields need, by name."""
    found: dict[str, Type] = {}
    while types:
        each = types.pop()
        if each.name not in found:
            found[each.name] = each
            types += [field.type for field in each.fields.values() if field.type]
    return dict(sorted(found.items()))


def _schemas(version: Version, kinds: list[Kind]) -> Object:
    parts = [type for kind in kinds for _, type in _objects(kind)]
    extra = [TYPES[f"meta.{name}"] for name in ("DeleteOptions", "Status")]
    types = _used([*(_type(kind.resource) for kind in kinds), *parts, *extra])
    schemas = {name_of(each): version.schema(each) for each in types.values()} | version.unions()
    for kind in kinds:
        own = _type(kind.resource)
        schemas[name_of(own)]["x-kubernetes-group-version-kind"] = [identity(kind.resource)]
        if "list" in kind.verbs:
            schemas[f"{name_of(own)}List"] = {
                "type": "object",
                "description": f"A list of {kind.resource.plural}.",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": version.reference(TYPES["meta.ListMeta"]),
                    "items": {"type": "array", "items": version.reference(own)},
                },
                "x-kubernetes-group-version-kind": [
                    identity(kind.resource) | {"kind": f"{kind.resource.kind}List"}
                ],
            }
    return schemas


@cache
def document(group: str, version: str) -> Object | None:
    """The answer of /openapi/v3/api/v1 and /openapi/v3/apis/GROUP/VERSION."""
    kinds = members(group, version)
    if not kinds:
        return None
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": {path: operations for kind in kinds for path, operations in _paths(kind)},
        "components": {"schemas": _schemas(V3, kinds)},
    }


def _paths(kind: Kind) -> Iterator[tuple[str, Object]]:
    resource, own = kind.resource, _type(kind.resource)
    place = [_parameter("namespace", "path")] if resource.namespaced else []
    for collection in (True, False):
        verbs = [verb for verb in kind.verbs if verb in _OPERATIONS and _OPERATIONS[verb][1] == collection]
        if verbs:
            named = [] if collection else [_parameter("name", "path")]
            path = resource.path("{namespace}", None if collection else "{name}")
            yield (
                path,
                {
                    "parameters": [*place, *named],
                    **{_OPERATIONS[v][0]: _operation(kind, v, own) for v in verbs},
                },
            )
    for name, type in _objects(kind):
        operations = {_OPERATIONS[verb][0]: _operation(kind, verb, type) for verb in SUBRESOURCES[name][1]}
        path = resource.path("{namespace}", "{name}", name)
        yield path, {"parameters": [*place, _parameter("name", "path")], **operations}


def _operation(kind: Kind, verb: str, type: Type) -> Object:
    method, _, query = _OPERATIONS[verb]
    given = V3.reference(type)
    if verb == "list":
        given = {"$ref": f"{given['$ref']}List"}
    operation: Object = {
        "parameters": [_parameter(name, "query") for name in query],
        "responses": {
            "201" if method == "post" else "200": _content("OK", {} if "delete" in verb else given),
            "default": _content("Refused", V3.reference(TYPES["meta.Status"])),
        },
        "x-kubernetes-action": "post" if verb == "create" else "put" if verb == "update" else verb,
        "x-kubernetes-group-version-kind": identity(kind.resource),
    }
    if verb in ("create", "update"):
        operation["requestBody"] = {"required": True, **_content("", given)}
    elif verb == "patch":
        anything = {"schema": {"type": "object"}}
        operation["requestBody"] = {"content": {f"application/{each}": anything for each in _PATCHES}}
    elif "delete" in verb:
        operation["requestBody"] = _content("", V3.reference(TYPES["meta.DeleteOptions"]))
    return operation


def _content(about: str, schema: Object) -> Object:
    content: Object = {"content": {"application/json": {"schema": schema}}}
    return content | ({"description": about} if about else {})


def _parameter(name: str, place: str) -> Object:
    form = "integer" if name in _NUMBERS else "boolean" if name in _FLAGS else "string"
    schema = {"type": form, "uniqueItems": True} if place == "query" else {"type": form}
    return {"name": name, "in": place, "schema": schema} | ({"required": True} if place == "path" else {})


@cache
def root() -> Object:
    """The answer of /openapi/v3: where each group version's document is."""
    paths = {}
    for group, versions in group_versions().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(orjson.dumps(document(group, version))).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


@cache
def v2() -> Object:
    """The answer of /openapi/v2: all types, and of the paths what clients look for."""
    paths = {}
    for kind in KINDS:
        if "patch" in kind.verbs:
            parameters = [{"name": name, "in": "query", "type": "string"} for name in _WRITING]
            patch = {
                "parameters": parameters,
                "x-kubernetes-group-version-kind": identity(kind.resource),
                "responses": {},
            }
            paths[kind.resource.path("{namespace}", "{name}")] = {"patch": patch}
    return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": _schemas(V2, list(KINDS))}
