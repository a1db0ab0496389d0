"""Server-side apply: who set which field (metadata.managedFields), and who may set it anew.

An object is tracked from its first apply on, as Kubernetes treats objects from before there was tracking:
what is there by then belongs to `before-first-apply`. Fields are paths of `f:NAME`, `k:{KEYS}` and `v:VALUE`
(KEP-555; sigs.k8s.io/structured-merge-diff).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from testbed.api import fields
from testbed.api.calls import Call
from testbed.api.lifecycle import now
from testbed.api.patch import KEY_DEFAULTS
from testbed.api.schema import Type, type_of
from testbed.api.status import StatusError, bad_request

Object = dict[str, Any]
Path = tuple[str, ...]
Fields = frozenset[Path]

FIRST = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SELF = "."
_KEPT_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")


def fields_of(type: Type, obj: Object) -> Fields:
    """The fields an object sets, besides what identifies it and its status."""
    body = {
        key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "status", "metadata")
    }
    metadata = {key: value for key, value in obj["metadata"].items() if key in _KEPT_METADATA}
    if metadata:
        body["metadata"] = metadata
    return frozenset(_walk(type, body, ()))


def _walk(type: Type | None, obj: Object, at: Path) -> Iterator[Path]:
    for name, value in obj.items():
        field, place = type.fields.get(name) if type else None, (*at, f"f:{name}")
        if field is None or field.atomic or not value or not isinstance(value, dict | list):
            yield place
        elif field.shape == "map":
            yield from ((*place, f"f:{key}") for key in value)
        elif field.shape == "set":
            yield from ((*place, f"v:{_json(item)}") for item in value)
        elif isinstance(value, dict) and field.type:
            yield from _walk(field.type, value, place)
        elif field.keys and all(isinstance(item, dict) and field.keys[0] in item for item in value):
            for item in value:
                element = (*place, _element(item, field.keys))
                yield (*element, _SELF)
                yield from _walk(field.type, item, element)
        else:
            yield place


def _element(item: Object, keys: tuple[str, ...]) -> str:
    return "k:" + _json({key: item.get(key, KEY_DEFAULTS.get(key)) for key in sorted(keys)})


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


_ABSENT = object()


def _find(obj: Any, path: Path) -> Any:
    """The value at a path, or _ABSENT."""
    for step in path:
        kind, text = step[:2], step[2:]
        if kind == "f:":
            obj = obj.get(text, _ABSENT) if isinstance(obj, dict) else _ABSENT
        elif kind == "k:" and isinstance(obj, list):
            wanted = orjson.loads(text)
            keys = tuple(wanted)
            obj = next((i for i in obj if isinstance(i, dict) and _element(i, keys) == step), _ABSENT)
        elif kind == "v:" and isinstance(obj, list):
            obj = next((item for item in obj if _json(item) == text), _ABSENT)
        if obj is _ABSENT:
            break
    return obj


def _remove(obj: Any, path: Path) -> None:
    """Take away what is at a path."""
    element = path[-1] == _SELF
    where = path[:-2] if element else path[:-1]
    step = path[-2] if element else path[-1]
    parent, target = _find(obj, where), _find(obj, (*where, step))
    if target is _ABSENT:
        return
    if step.startswith("f:"):
        del parent[step[2:]]
    else:
        parent.remove(target)


# -- managedFields


class Entry:
    """One manager's fields. `operation`: Apply or Update."""

    def __init__(
        self, manager: str, operation: str, fields: Fields, time: str = "", held: Object | None = None
    ):
        self.manager, self.operation, self.fields = manager, operation, fields
        self._time, self._held = time or now(), held

    @classmethod
    def read(cls, held: Object) -> Entry:
        fields = frozenset(_paths(held.get("fieldsV1") or {}, ()))
        return cls(held.get("manager", ""), held.get("operation", ""), fields, held.get("time", ""), held)

    def shown(self, api_version: str) -> Object:
        """As it stands in the object; the same as before when its fields are."""
        if self._held and frozenset(_paths(self._held.get("fieldsV1") or {}, ())) == self.fields:
            return self._held
        tree: Object = {}
        for path in sorted(self.fields):
            node = tree
            for step in path:
                node = node.setdefault(step, {})
        time = now() if self._held else self._time
        return {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": api_version,
            "time": time,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree,
        }


def _paths(tree: Object, at: Path) -> Iterator[Path]:
    if not tree and at:
        yield at
    for step, below in tree.items():
        yield from _paths(below, (*at, step))


def _entries(obj: Object) -> list[Entry]:
    return [Entry.read(each) for each in obj["metadata"].get("managedFields") or ()]


def _written(obj: Object, entries: Iterable[Entry]) -> list[Object]:
    return [each.shown(obj["apiVersion"]) for each in entries if each.fields]


class Apply:
    """One apply: `change` makes the new object of the old one, `stamp` its managedFields."""

    def __init__(self, manager: str, type: Type, config: Object, force: bool) -> None:
        self.manager, self.type, self.config, self.force = manager, type, config, force
        self.fields = fields_of(type, config)
        self._result: list[Entry] = []

    def settle(self, old: Object, merged: Object) -> Object:
        """`merged` less what this manager no longer sets. Raises StatusError 409 on a conflict."""
        entries = _entries(old)
        force = self.force
        if not entries:
            entries = [
                Entry(FIRST, "Update", fields_of(self.type, old), old["metadata"]["creationTimestamp"])
            ]
            # What `kubectl apply` set before belongs to who applies it now.
            force = force or LAST_APPLIED in (old["metadata"].get("annotations") or {})
        own = next(
            (each for each in entries if (each.manager, each.operation) == (self.manager, "Apply")), None
        )
        others = [each for each in entries if each is not own]
        clashes = [
            (each, path)
            for each in others
            for path in sorted(self.fields & each.fields)
            if self._differs(old, path)
        ]
        if clashes and not force:
            raise _conflict(old, clashes)
        taken = frozenset(path for _, path in clashes)
        for each in others:
            each.fields -= taken
        held = frozenset().union(*(each.fields for each in others))
        for path in sorted((own.fields if own else frozenset()) - self.fields - held):
            _remove(merged, path)  # an element before what is in it: its keys are what it is found by
        own = own or Entry(self.manager, "Apply", self.fields)
        own.fields = self.fields
        self._result = [own, *others]
        return merged

    def _differs(self, old: Object, path: Path) -> bool:
        return path[-1] != _SELF and _find(old, path) != _find(self.config, path)

    def stamp(self, old: Object, new: Object) -> None:
        new["metadata"]["managedFields"] = _written(new, self._result)

    def stamp_first(self, new: Object) -> None:
        """Of an object that the apply creates."""
        new["metadata"]["managedFields"] = _written(new, [Entry(self.manager, "Apply", self.fields)])


def applied(call: Call, given: Any) -> Apply:
    """The apply that a request asks for. Raises StatusError 400."""
    if not isinstance(given, dict) or not isinstance(given.setdefault("metadata", {}), dict):
        raise bad_request("the applied configuration is not an object")
    if not call.query.get("fieldManager"):
        raise bad_request(
            "PatchOptions.meta.k8s.io: fieldManager: Required value: is required for apply patch"
        )
    fields.check(call, given)
    if given["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    return Apply(call.manager, call.type, given, call.query.get("force") in ("true", "1"))


def track(manager: str, old: Object, new: Object) -> None:
    """An update of a tracked object: what it changed is the updater's now."""
    entries = _entries(old)
    if not entries:
        return
    type = type_of(new)
    before, after = fields_of(type, old), fields_of(type, new)
    gone = before - after
    changed = frozenset(path for path in after if path not in before or _find(old, path) != _find(new, path))
    own = next((each for each in entries if (each.manager, each.operation) == (manager, "Update")), None)
    if own is None and changed:
        own = Entry(manager, "Update", frozenset())
        entries.append(own)
    for each in entries:
        each.fields = each.fields - gone - (frozenset() if each is own else changed)
    if own is not None:
        own.fields |= changed
    new["metadata"]["managedFields"] = _written(new, entries)


def _conflict(old: Object, clashes: list[tuple[Entry, Path]]) -> StatusError:
    causes = []
    for entry, path in clashes:
        told = f'conflict with "{entry.manager}" using {old["apiVersion"]}'
        field = "".join(f".{step[2:]}" if step[:2] == "f:" else f"[{step[2:]}]" for step in path)
        causes.append({"reason": "FieldManagerConflict", "message": told, "field": field})
    plural = "conflict" if len(causes) == 1 else "conflicts"
    listed = "; ".join(f"{each['message']}: {each['field']}" for each in causes)
    message = f"Apply failed with {len(causes)} {plural}: {listed}"
    return StatusError(409, "Conflict", message, {"causes": causes})
