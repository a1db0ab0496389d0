"""Patches: the examples of the RFCs, the rules of strategic merge, and what holds for any document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.api import patch
from testbed.api.schema import TYPES, Type
from testbed.api.status import StatusError

SCALARS = st.one_of(st.booleans(), st.integers(), st.text(max_size=5))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=3), DOCUMENTS, max_size=4)


def difference(old: Any, new: Any) -> Any:
    """The merge patch that turns `old` into `new` (neither has nulls)."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {key: difference(old.get(key), value) for key, value in new.items() if old.get(key) != value}
    return changed | {key: None for key in old if key not in new}


@pytest.mark.parametrize(
    ("target", "change", "expected"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
@pytest.mark.feature("C2")
def test_merge_patch_does_what_the_rfc_says(target: Any, change: Any, expected: Any) -> None:
    assert patch.merge(target, change) == expected


@given(OBJECTS, OBJECTS)
def test_merge_patch_of_a_difference_gives_the_new_document(old: Any, new: Any) -> None:
    assert patch.merge(json.loads(json.dumps(old)), difference(old, new)) == new


@pytest.mark.parametrize(
    ("document", "operations", "expected"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [("add", "/baz", "qux")], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [("add", "/foo/1", "qux")], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [("remove", "/baz", None)], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [("remove", "/foo/1", None)], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [("replace", "/baz", "boo")], {"baz": "boo"}),
        ({"foo": ["bar"]}, [("add", "/foo/-", ["abc"])], {"foo": ["bar", ["abc"]]}),
        ({"/": 9, "~1": 10}, [("test", "/~01", 10)], {"/": 9, "~1": 10}),
        ({"a": {"b": 1}}, [("add", "", {"c": 2})], {"c": 2}),
    ],
)
@pytest.mark.feature("C2")
def test_json_patch_does_what_the_rfc_says(document: Any, operations: list[Any], expected: Any) -> None:
    given_operations = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    assert patch.json_patch(document, given_operations) == expected


def test_json_patch_moves_and_copies() -> None:
    moved = patch.json_patch({"a": {"x": 1}, "b": {}}, [{"op": "move", "from": "/a/x", "path": "/b/y"}])
    assert moved == {"a": {}, "b": {"y": 1}}
    copied = patch.json_patch({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}])
    copied["b"].append(2)
    assert copied == {"a": [1], "b": [1, 2]}


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"op": "remove", "path": "/none"}, 422),
        ({"op": "replace", "path": "/none", "value": 1}, 422),
        ({"op": "add", "path": "/list/9", "value": 1}, 422),
        ({"op": "add", "path": "/list/01", "value": 1}, 422),
        ({"op": "test", "path": "/a", "value": 2}, 422),
        ({"op": "move", "from": "/a", "path": "/a/b"}, 422),
        ({"op": "jump", "path": "/a"}, 422),
        ({"path": "/a"}, 422),
        ({"op": "add", "path": "a", "value": 1}, 422),
        ("text", 400),
    ],
)
def test_json_patches_that_do_not_apply_are_refused(operation: Any, code: int) -> None:
    with pytest.raises(StatusError) as refusal:
        patch.json_patch({"a": 1, "list": []}, [operation])
    assert refusal.value.code == code


MIXED = Type(
    "Mixed",
    {
        name: field
        for each in (
            "core.PodSpec",
            "core.Container",
            "core.ServiceSpec",
            "meta.ObjectMeta",
            "apps.DeploymentSpec",
        )
        for name, field in TYPES[each].fields.items()
    },
    "",
)
"""A type with the lists of several, each under its own name."""


@pytest.mark.parametrize(
    ("target", "change", "expected"),
    [
        pytest.param(
            {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]},
            {"containers": [{"name": "b", "image": "3"}, {"name": "c"}]},
            {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c"}]},
            id="elements merge by their key, new ones go last",
        ),
        pytest.param(
            {"env": [{"name": "A"}, {"name": "B"}]},
            {"env": [{"$patch": "delete", "name": "A"}]},
            {"env": [{"name": "B"}]},
            id="an element is deleted",
        ),
        pytest.param(
            {"env": [{"name": "A"}]},
            {"env": [{"$patch": "replace"}, {"name": "B"}]},
            {"env": [{"name": "B"}]},
            id="a list is replaced",
        ),
        pytest.param(
            {"ports": [{"port": 53, "protocol": "TCP", "name": "t"}]},
            {"ports": [{"port": 53, "protocol": "UDP", "name": "u"}]},
            {
                "ports": [
                    {"port": 53, "protocol": "TCP", "name": "t"},
                    {"port": 53, "protocol": "UDP", "name": "u"},
                ]
            },
            id="a port number under two protocols is two ports",
        ),
        pytest.param({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}, id="a plain list is replaced"),
        pytest.param(
            {"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}, id="a set grows"
        ),
        pytest.param(
            {"finalizers": ["a", "b"]},
            {"$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": ["b"]},
            id="a set shrinks",
        ),
        pytest.param(
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
            id="only retained keys stay",
        ),
        pytest.param(
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]},
            {"containers": [{"name": "b"}, {"name": "a"}]},
            id="elements take the order that is set",
        ),
        pytest.param(
            {"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}, id="an object is replaced"
        ),
        pytest.param({"a": 1, "b": 2}, {"a": None}, {"b": 2}, id="null deletes"),
        pytest.param(
            {}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}, id="null in a new object means nothing"
        ),
    ],
)
@pytest.mark.feature("C2")
def test_strategic_merge(target: Any, change: Any, expected: Any) -> None:
    assert patch.strategic(MIXED, target, change) == expected


@given(OBJECTS, OBJECTS)
def test_strategic_merge_with_plain_lists_is_a_merge_patch(old: Any, new: Any) -> None:
    """Where no list has a merge key, the two agree."""
    change = difference(old, new)
    assert patch.strategic(None, json.loads(json.dumps(old)), change) == new
