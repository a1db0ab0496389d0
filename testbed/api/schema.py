"""The fields of all kinds: what they are, how lists of them merge, what they are for.

The table is in `types/`, a file for each package of k8s.io/api. A line at its beginning names a type; below
stand its fields: name, form, marks, and after `#` what it is for. Forms: a type of the table or of SCALARS,
`[form]` a list, `{form}` a map; `!` is required. Marks: `by:KEYS` a list whose elements are told apart by
KEYS, `set` a list of values that stand once each, `atomic` one value (as a list without mark), `merge:KEY`
where a strategic merge tells elements apart by another KEY, `replaced` where it does not merge them,
`retain` where it drops what it does not name, `pb:N` its number in protobuf form, `=VALUE` what it is when
nothing is said. Validation of fields, defaults, all merges, server-side apply, OpenAPI, `kubectl explain` and
protobuf follow this table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import orjson

Object = dict[str, Any]

SCALARS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    # Form: its Go type, and what it is in JSON.
    "string": ("string", str),
    "boolean": ("bool", bool),
    "int32": ("int32", int),
    "int64": ("int64", int),
    "number": ("float64", (int, float)),
    "bytes": ("[]uint8", str),
    "Time": ("Time", str),
    "MicroTime": ("MicroTime", str),
    "IntOrString": ("intstr.IntOrString", (int, str)),
    "Quantity": ("resource.Quantity", (int, float, str)),
    "object": ("", object),
}
SELF = "."
LIMITS = {"int32": 1 << 31, "int64": 1 << 63}


class Field(NamedTuple):
    """One field of a type. `shape`: "" for one value, "list" or "map" of them, "set"."""

    name: str
    form: str
    """The type of a value or element: a name of TYPES or SCALARS."""
    shape: str
    required: bool
    keys: tuple[str, ...]
    """What tells the elements of a list apart."""
    atomic: bool
    merge_key: str
    """What a strategic merge tells elements apart by: a key of theirs, or SELF; "" replaces the list."""
    retain: bool
    about: str
    number: str = ""
    """Where it is in protobuf form: see `protobuf`."""
    default: str | None = None
    """What it is when nothing is said, as JSON; a word stands for itself."""

    @property
    def type(self) -> Type | None:
        """The type of a value or element, if it has fields."""
        return TYPES.get(self.form)


class Type(NamedTuple):
    name: str
    """As "core.ServicePort"."""
    fields: Mapping[str, Field]
    about: str

    @property
    def go_name(self) -> str:
        return self.name.rpartition(".")[2]


_FORM = re.compile(r"(?P<open>[\[{]?)(?P<form>[\w.]+)[\]}]?(?P<required>!?)")


def _field(line: str) -> Field:
    words, _, about = line.strip().partition("  # ")
    name, form, *marks = words.split()
    match = _FORM.fullmatch(form)
    assert match, line
    given = dict(("=", mark[1:]) if mark[0] == "=" else mark.partition(":")[::2] for mark in marks)
    keys = tuple(filter(None, given.get("by", "").split(",")))
    shape = "set" if "set" in given else {"": "", "[": "list", "{": "map"}[match["open"]]
    own = SELF if shape == "set" else keys[0] if keys else ""
    merge = given.get("merge") or ("" if "replaced" in given else own)
    return Field(
        name,
        match["form"],
        shape,
        bool(match["required"]),
        keys,
        "atomic" in given,
        merge,
        "retain" in given,
        about,
        given.get("pb", ""),
        given.get("="),
    )


def _read(package: str, text: str) -> Iterator[Type]:
    name, about, fields = "", "", list[Field]()
    for line in [*text.splitlines(), ""]:
        if line.startswith(" "):
            fields.append(_field(line))
            continue
        if name:
            yield Type(f"{package}.{name}", {each.name: each for each in fields}, about)
        name, _, about = line.partition("  # ")
        fields = []


def _load() -> dict[str, Type]:
    """All types by name, each field's form made a full name: a type of the same package first."""
    types = {}
    for file in resources.files("testbed.api").joinpath("types").iterdir():
        for each in _read(file.name.removesuffix(".txt"), file.read_text()):
            types[each.name] = each
    places: dict[str, list[str]] = {}
    for name in types:
        places.setdefault(name.partition(".")[2], []).append(name)
    for full, each in types.items():
        package = full.partition(".")[0]
        fields = {}
        for field in each.fields.values():
            found = [field.form] if field.form in types else places.get(field.form, [])
            form = (
                f"{package}.{field.form}"
                if f"{package}.{field.form}" in found
                else found[0]
                if found
                else field.form
            )
            fields[field.name] = field._replace(form=form)
        types[full] = each._replace(fields=fields)
    return types


TYPES: Mapping[str, Type] = _load()


@cache
def of_kind(group: str, kind: str) -> Type:
    """The type of a kind."""
    return TYPES[f"{group.partition('.')[0] or 'core'}.{kind}"]


def type_of(obj: Object) -> Type:
    """The type of an object that says its kind."""
    return of_kind(obj["apiVersion"].rpartition("/")[0], obj["kind"])


def fill(type: Type, obj: Object) -> None:
    """Give fields that are not there what they are when nothing is said, all the way down."""
    for field in _filled(type.name):
        value = obj.get(field.name)
        if value is None:
            if field.default is None:
                continue
            value = obj[field.name] = _default(field.default)
        if field.type is not None:
            items = [value] if not field.shape else value.values() if field.shape == "map" else value
            for item in items:
                fill(field.type, item)


@cache
def _filled(name: str) -> tuple[Field, ...]:
    """The fields of a type that have a default, or something inside them does."""
    fields = TYPES[name].fields.values()
    return tuple(
        each for each in fields if each.default is not None or (each.type and _filled(each.type.name))
    )


def _default(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class WrongType(Exception):
    """A value is not of its field's type. The text is Go's decoder's."""


def conform(type: Type, obj: Object) -> list[str]:
    """Drop fields that the type has not, and nulls; the paths of the unknown. Raises WrongType."""
    unknown: list[str] = []
    _conform(type, obj, "", unknown)
    return unknown


def _conform(type: Type, obj: Object, place: str, unknown: list[str]) -> None:
    fields, drop = type.fields, None
    for name, value in obj.items():
        field = fields.get(name)
        if field is None or value is None:
            drop = [name] if drop is None else [*drop, name]
            if field is None:
                unknown.append(place + name)
            continue
        shape, inner = field.shape, TYPES.get(field.form)
        if not shape:
            if inner is None:
                _scalar(type, field, value, place)
            elif value.__class__ is dict:
                _conform(inner, value, f"{place}{name}.", unknown)
            else:
                raise _wrong(type, field, value, place)
        elif shape == "map":
            if value.__class__ is not dict:
                raise _wrong(type, field, value, place)
            for key, item in value.items():
                _element(type, field, inner, item, f"{place}{name}[{key}].", place, unknown)
        else:
            if value.__class__ is not list:
                raise _wrong(type, field, value, place)
            for at, item in enumerate(value):
                _element(type, field, inner, item, f"{place}{name}[{at}].", place, unknown)
    for name in drop or ():
        del obj[name]


def _element(
    type: Type, field: Field, inner: Type | None, item: Any, below: str, place: str, unknown: list[str]
) -> None:
    if inner is None:
        _scalar(type, field, item, place)
    elif item.__class__ is dict:
        _conform(inner, item, below, unknown)
    else:
        raise _wrong(type, field, item, place)


def _scalar(type: Type, field: Field, value: Any, place: str) -> None:
    form = field.form
    if form == "string" and value.__class__ is str:
        return
    wanted = SCALARS[form][1]
    if not isinstance(value, wanted) or (value.__class__ is bool and form not in ("boolean", "object")):
        raise _wrong(type, field, value, place)
    if value.__class__ is int and not -(limit := LIMITS.get(form, 1 << 63)) <= value < limit:
        raise _wrong(type, field, value, place)
    check = _CHECKS.get(form)
    if check and isinstance(value, str) and not check[0].fullmatch(value):
        raise WrongType(check[1].format(value=value))


_CHECKS = {
    "bytes": (
        re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\s*"),
        "illegal base64 data at input byte 0",
    ),
    "Time": (
        re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)"),
        'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"',
    ),
    "Quantity": (
        re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?"),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
}
_CHECKS["MicroTime"] = _CHECKS["Time"]
_JSON_NAMES = {bool: "bool", str: "string", dict: "object", list: "array"}


def _wrong(type: Type, field: Field, value: Any, place: str) -> WrongType:
    given = _JSON_NAMES.get(value.__class__, "number")
    if given == "number" and field.form in LIMITS:
        given = f"number {value}"
    package, _, short = field.form.partition(".")
    go = SCALARS[field.form][0] if field.form in SCALARS else f"v1.{short or package}"
    shape = {"": "", "map": "map[string]"}.get(field.shape, "[]")
    path = re.sub(r"\[[^\]]*\]", "", place) + field.name
    return WrongType(
        f"json: cannot unmarshal {given} into Go struct field {type.go_name}.{path} of type {shape}{go}"
    )
