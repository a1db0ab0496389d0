"""A kind in two groups: stored once, in one form, and shown in the other's words when asked there.

Only Events are such a kind: core v1 is stored, events.k8s.io/v1 is the same with some fields renamed
(k8s.io/kubernetes pkg/apis/core/v1 and events/v1 conversion).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from testbed.api.registry import BY_ID, Kind
from testbed.api.selectors import Requirement

Object = dict[str, Any]


def stored(kind: Kind) -> Kind:
    """The kind whose objects these are in the store."""
    return BY_ID[kind.id]


def inward(kind: Kind, obj: Any) -> Any:
    """An object in a twin's words as it is stored."""
    return _renamed(kind, stored(kind), obj, {own: name for name, own in kind.renames.items()})


def outward(kind: Kind, obj: Any) -> Any:
    """A stored object in a twin's words."""
    return _renamed(stored(kind), kind, obj, kind.renames)


def shown(kind: Kind, data: bytes) -> bytes:
    """The JSON of a stored object in the words of `kind`."""
    return orjson.dumps(outward(kind, orjson.loads(data))) if kind.renames else data


def inward_field(kind: Kind, requirement: Requirement) -> Requirement:
    """A field selector, in the words of the store."""
    first, dot, rest = requirement.key.partition(".")
    names = {own: name for name, own in kind.renames.items()}
    return replace(requirement, key=names.get(first, first) + dot + rest)


def _renamed(source: Kind, target: Kind, obj: Any, names: Any) -> Any:
    if source is target or not isinstance(obj, dict):
        return obj
    result = {names.get(key, key): value for key, value in obj.items()}
    for field in ("kind", "apiVersion"):
        was = getattr(source.resource, "kind" if field == "kind" else "api_version")
        if result.get(field, was) == was:
            result[field] = getattr(target.resource, "kind" if field == "kind" else "api_version")
    return result
