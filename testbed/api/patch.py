"""The patches of the Kubernetes API: RFC 6902 (JSON), RFC 7386 (merge) and strategic merge.

All take the document to be changed and return the result; the document given may be changed on the way.
"""

from __future__ import annotations

from typing import Any

from testbed.api.status import StatusError, bad_request

Object = dict[str, Any]

# -- RFC 7386


def merge(target: Any, patch: Any) -> Any:
    """`null` deletes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


# -- RFC 6902


def json_patch(document: Any, operations: Any) -> Any:
    """Apply the operations in order. Raises StatusError 400 (not a patch) or 422 (it does not apply)."""
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("a JSON patch is a list of operations")
    holder = {"": document}
    for operation in operations:
        try:
            _apply(holder, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            message = (
                f"the server rejected our request due to an error in our request: {_told(operation, error)}"
            )
            raise StatusError(422, "Invalid", message) from None
    return holder[""]


def _told(operation: Object, error: Exception) -> str:
    return f"{operation.get('op')} operation at {operation.get('path')!r} does not apply: {error}"


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise ValueError(f"{text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _step(container: Any, key: str) -> Any:
    return container[_position(container, key)] if isinstance(container, list) else container[key]


def _position(container: list[Any], key: str) -> int:
    if not key.isdecimal() or (len(key) > 1 and key[0] == "0") or int(key) >= len(container):
        raise IndexError(f"no element {key!r}")
    return int(key)


def _find(holder: Object, path: Any) -> tuple[Any, str]:
    """The container of the place that `path` points at, and its key there."""
    parts = _pointer(path)
    container: Any = holder
    for part in parts[:-1]:
        container = _step(container, part)
    if not isinstance(container, dict | list):
        raise ValueError("the parent is not an object or a list")
    return container, parts[-1]


def _add(holder: Object, path: Any, value: Any) -> None:
    container, key = _find(holder, path)
    if isinstance(container, list):
        at = len(container) if key in ("-", str(len(container))) else _position(container, key)
        container.insert(at, value)
    else:
        container[key] = value


def _remove(holder: Object, path: Any) -> Any:
    container, key = _find(holder, path)
    return container.pop(_position(container, key) if isinstance(container, list) else key)


def _get(holder: Object, path: Any) -> Any:
    container, key = _find(holder, path)
    return _step(container, key)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _apply(holder: Object, operation: Object) -> None:
    op, path = operation["op"], operation["path"]
    if op == "add":
        _add(holder, path, operation["value"])
    elif op == "remove":
        _remove(holder, path)
    elif op == "replace":
        _get(holder, path)
        container, key = _find(holder, path)
        container[_position(container, key) if isinstance(container, list) else key] = operation["value"]
    elif op == "move":
        if str(path).startswith(f"{operation['from']}/"):
            raise ValueError("a value cannot move into itself")
        _add(holder, path, _remove(holder, operation["from"]))
    elif op == "copy":
        _add(holder, path, _copy(_get(holder, operation["from"])))
    elif op == "test":
        if _get(holder, path) != operation["value"]:
            raise ValueError("the test failed")
    else:
        raise ValueError(f"unknown operation {op!r}")


# -- strategic merge

MERGE_KEYS: dict[str, tuple[str, ...]] = {
    # The `patchMergeKey` tags of k8s.io/api by the list's name; the first key that its elements have is used.
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "ports": ("containerPort", "port"),
    "conditions": ("type",),
    "addresses": ("type",),
    "ownerReferences": ("uid",),
    "secrets": ("name",),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
    "resourceClaims": ("name",),
}
SETS = frozenset({"finalizers"})
"""Lists of plain values that merge as sets."""
_ORDER, _DROP = "$setElementOrder/", "$deleteFromPrimitiveList/"


def _is_directive(key: str) -> bool:
    return key in ("$patch", "$retainKeys") or key.startswith((_ORDER, _DROP))


def strategic(target: Any, patch: Any, field: str = "") -> Any:
    """Merge by the rules of strategic merge: lists by their merge key, and the `$patch` directives."""
    if isinstance(patch, dict):
        return _strategic_object(target if isinstance(target, dict) else {}, patch)
    if isinstance(patch, list) and isinstance(target, list):
        if field in SETS:
            return [*target, *(item for item in patch if item not in target)]
        key = _merge_key(field, patch)
        if key:
            return _strategic_list(target, patch, key)
    return _without_directives(patch)


def _strategic_object(target: Object, patch: Object) -> Any:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    retained = patch.get("$retainKeys")
    for key, value in patch.items():
        if key.startswith(_DROP):
            name = key.split("/", 1)[1]
            target[name] = [item for item in target.get(name) or () if item not in value]
        elif _is_directive(key):
            continue
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = strategic(target.get(key), value, key)
    for key, value in patch.items():
        if key.startswith(_ORDER):
            _reorder(target, key.split("/", 1)[1], value)
    if isinstance(retained, list):
        target = {key: value for key, value in target.items() if key in retained}
    return target


def _merge_key(field: str, patch: list[Any]) -> str:
    """The key that elements of this list are told apart by, or "" for a list that is replaced whole."""
    if not all(isinstance(item, dict) for item in patch):
        return ""
    for key in MERGE_KEYS.get(field, ()):
        if any(key in item for item in patch):
            return key
    only_directives = patch and all("$patch" in item for item in patch)
    return MERGE_KEYS.get(field, ("",))[0] if only_directives else ""


def _strategic_list(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    result = list(target)
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = _element(result, item, key)
        if item.get("$patch") == "delete":
            result = [each for each in result if not _same(each, item, key)]
        elif at is None:
            result.append(_without_directives(item))
        else:
            result[at] = strategic(result[at], item)
    return result


def _element(items: list[Any], wanted: Object, key: str) -> int | None:
    return next((at for at, item in enumerate(items) if _same(item, wanted, key)), None)


def _same(item: Any, wanted: Object, key: str) -> bool:
    """Ports with one number and two protocols are two, though upstream's merge key is the number."""
    if not isinstance(item, dict) or item.get(key) != wanted.get(key):
        return False
    return "protocol" not in wanted or item.get("protocol", "TCP") == wanted["protocol"]


def _reorder(target: Object, field: str, order: list[Any]) -> None:
    """Put the elements that `$setElementOrder` names in that order, and the others after them."""
    items = target.get(field)
    if not isinstance(items, list):
        return
    ranks: dict[int, int] = {}
    for at, item in enumerate(items):
        for rank, wanted in enumerate(order):
            same = (
                all(item.get(key) == value for key, value in wanted.items())
                if isinstance(wanted, dict) and isinstance(item, dict)
                else item == wanted
            )
            if same:
                ranks[at] = rank
                break
    target[field] = [items[at] for at in sorted(range(len(items)), key=lambda at: ranks.get(at, len(order)))]


def _without_directives(value: Any) -> Any:
    """A value taken over whole: nulls and directives inside it mean nothing there."""
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if not _is_directive(key) and item is not None
        }
    if isinstance(value, list):
        return [
            _without_directives(item)
            for item in value
            if not (isinstance(item, dict) and item.get("$patch") == "delete")
        ]
    return value
