"""The patches of the Kubernetes API: RFC 6902 (JSON), RFC 7386 (merge) and strategic merge.

All take the document to be changed and return the result; the document given may be changed on the way.
"""

from __future__ import annotations

from typing import Any

from testbed.api.schema import SELF, Field, Type
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

KEY_DEFAULTS = {"protocol": "TCP"}
"""What a key of a list's elements is when it is left out."""
_ORDER, _DROP = "$setElementOrder/", "$deleteFromPrimitiveList/"


def _is_directive(key: str) -> bool:
    return key in ("$patch", "$retainKeys") or key.startswith((_ORDER, _DROP))


def strategic(type: Type | None, target: Object, patch: Any) -> Any:
    """Merge by the rules of strategic merge: lists by their merge key, and the `$patch` directives."""
    if not isinstance(patch, dict):
        raise bad_request("the patch is not an object")
    return _object(type, target, patch, apply=False)


def apply(type: Type, target: Object, config: Object) -> Any:
    """Merge an applied configuration: lists by their keys, what is atomic as one."""
    return _object(type, target, config, apply=True)


def _object(type: Type | None, target: Object, patch: Object, *, apply: bool) -> Any:
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
            field = type.fields.get(key) if type else None
            target[key] = _value(field, target.get(key), value, apply=apply)
    for key, value in patch.items():
        if key.startswith(_ORDER):
            _reorder(target, key.split("/", 1)[1], value)
    if isinstance(retained, list):
        target = {key: value for key, value in target.items() if key in retained}
    return target


def _value(field: Field | None, target: Any, patch: Any, *, apply: bool) -> Any:
    if isinstance(patch, dict) and not (apply and field and field.atomic):
        inner = field.type if field and not field.shape else None
        return _object(inner, target if isinstance(target, dict) else {}, patch, apply=apply)
    if isinstance(patch, list) and isinstance(target, list) and field:
        if (field.shape == "set") if apply else field.merge_key == SELF:
            return [*target, *(item for item in patch if item not in target)]
        keys = field.keys
        if not apply:
            defaulted = [key for key in field.keys if key in KEY_DEFAULTS]
            keys = (field.merge_key, *defaulted) if field.merge_key else ()
        if keys:
            return _list(field, target, patch, keys, apply=apply)
    return _without_directives(patch)


def _list(
    field: Field, target: list[Any], patch: list[Any], keys: tuple[str, ...], *, apply: bool
) -> list[Any]:
    if not all(isinstance(item, dict) for item in patch):
        raise bad_request(f"the elements of {field.name} are objects")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    result = list(target)
    for item in patch:
        if keys[0] not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {keys[0]}")
        found = [at for at, each in enumerate(result) if same_element(each, item, keys)]
        if item.get("$patch") == "delete":
            result = [each for at, each in enumerate(result) if at not in found]
        elif found:
            result[found[0]] = _object(field.type, result[found[0]], item, apply=apply)
        else:
            result.append(_without_directives(item))
    return result


def same_element(item: Any, wanted: Object, keys: tuple[str, ...]) -> bool:
    """Whether two elements are one by their keys, as far as `wanted` has them.

    Ports with one number and two protocols are two, though upstream's merge key is the number.
    """
    return isinstance(item, dict) and all(
        item.get(key, KEY_DEFAULTS.get(key)) == wanted[key] for key in keys if key in wanted
    )


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
