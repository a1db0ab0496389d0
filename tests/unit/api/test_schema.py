"""The table of fields agrees with the official client's models; what does not fit it is found where it is."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from testbed.api import schema
from testbed.api.registry import KINDS

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
POD = schema.of_kind("", "Pod")
SERVICE = schema.of_kind("", "Service")


FORMS = {
    # What the official client calls the forms of values.
    **dict.fromkeys(("string", "Quantity"), "str"),
    "bytes": "bytes",
    **dict.fromkeys(("int32", "int64"), "int"),
    **dict.fromkeys(("IntOrString", "object"), "object"),
    **dict.fromkeys(("Time", "MicroTime"), "datetime"),
    "boolean": "bool",
    "number": "float",
}


def model_of(each: schema.Type) -> Any:
    """The official client's model of a type."""
    package, _, name = each.name.partition(".")
    return next(
        found
        for form in (f"V1{name}", f"{package.capitalize()}V1{name}", name, f"{package.capitalize()}{name}")
        if (found := getattr(kubernetes.client, form, None)) is not None
    )


def shown(field: schema.Field) -> str:
    """A field's form as the official client writes it."""
    inner = model_of(field.type).__name__ if field.type else FORMS[field.form]
    return {"": inner, "map": f"Dict[str, {inner}]"}.get(field.shape, f"List[{inner}]")


@pytest.mark.parametrize("name", sorted(schema.TYPES))
def test_fields_and_forms_are_those_of_the_official_client(name: str) -> None:
    """What the table leaves open (`object`) the client may know better; it may be newer, too."""
    each = schema.TYPES[name]
    model = model_of(each)
    names = {json: own for own, json in model.attribute_map.items()}
    assert set(each.fields) <= set(names)
    wrong = {
        field.name: (shown(field), model.openapi_types[names[field.name]])
        for field in each.fields.values()
        if field.form != "object" and shown(field) != model.openapi_types[names[field.name]]
    }
    assert wrong == {}


def test_every_form_is_a_type_or_a_scalar() -> None:
    forms = {field.form for each in schema.TYPES.values() for field in each.fields.values()}
    assert forms <= {*schema.TYPES, *schema.SCALARS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource.qualified)
def test_every_kind_has_fields(kind: Any) -> None:
    fields = schema.of_kind(kind.resource.group, kind.resource.kind).fields
    assert {"apiVersion", "kind", "metadata"} <= set(fields)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_have_known_fields_only(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document and "kind" in document:
            assert schema.conform(schema.type_of(document), copy.deepcopy(document)) == []


@pytest.mark.feature("C5")
def test_unknown_fields_and_nulls_are_dropped_and_the_unknown_told_by_their_path() -> None:
    container = {"name": "c", "imagee": "x", "ports": [{"containerPort": 1}, {"port": 2}], "env": None}
    pod = {"kind": "Pod", "spec": {"containers": [container]}, "more": 1, "metadata": {"label": {}}}
    assert schema.conform(POD, pod) == [
        "spec.containers[0].imagee",
        "spec.containers[0].ports[1].port",
        "more",
        "metadata.label",
    ]
    kept = {"name": "c", "ports": [{"containerPort": 1}, {}]}
    assert pod == {"kind": "Pod", "spec": {"containers": [kept]}, "metadata": {}}


@pytest.mark.feature("C5")
@pytest.mark.parametrize(
    ("obj", "told"),
    [
        ({"spec": []}, "array into Go struct field Service.spec of type v1.ServiceSpec"),
        (
            {"spec": {"ports": {}}},
            "object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
        (
            {"spec": {"ports": [{"port": "80"}]}},
            "string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            {"spec": {"ports": [{"port": 1 << 40}]}},
            "number 1099511627776 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            "number into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            {"spec": {"publishNotReadyAddresses": "true"}},
            "string into Go struct field ServiceSpec.spec.publishNotReadyAddresses of type bool",
        ),
        ({"spec": {"clusterIPs": [None]}}, "of type []string"),
        (
            {"spec": {"ports": [7]}},
            "number into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_told_as_by_gos_decoder(obj: dict, told: str) -> None:
    with pytest.raises(schema.WrongType, match=re.escape(told)):
        schema.conform(SERVICE, obj)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("Quantity", ["1", "100m", "1.5Gi", "2e3", 7], ["1 Gi", "", "Mi", "1KB"]),
        ("Time", ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123+01:00"], ["2024-01-02", "now"]),
        ("bytes", ["", "YQ==", "YWJj"], ["a", "YQ=", "!!!!"]),
        ("IntOrString", [1, "x"], [True, 1.5, []]),
        ("object", [1, True, {}, [], "x"], []),
    ],
)
def test_scalars(form: str, good: list, bad: list) -> None:
    field = schema.Field("f", form, "", False, (), False, "", False, "")
    holder = schema.Type("core.T", {"f": field}, "")
    for value in good:
        assert schema.conform(holder, {"f": value}) == []
    for value in bad:
        with pytest.raises(schema.WrongType):
            schema.conform(holder, {"f": value})


@pytest.mark.parametrize("name", sorted(schema.TYPES))
def test_what_is_filled_in_is_of_its_type(name: str) -> None:
    obj: dict[str, Any] = {}
    schema.fill(schema.TYPES[name], obj)
    assert schema.conform(schema.TYPES[name], obj) == []


def test_defaults_are_filled_in_all_the_way_down_and_nothing_is_written_over() -> None:
    containers = [
        {"ports": [{"containerPort": 1}, {"protocol": "UDP"}]},
        {"livenessProbe": {"periodSeconds": 2}},
    ]
    pod = {"spec": {"containers": containers, "dnsPolicy": "None"}}
    schema.fill(POD, pod)
    assert [port["protocol"] for port in containers[0]["ports"]] == ["TCP", "UDP"]
    assert containers[1]["livenessProbe"] == {
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert (pod["spec"]["dnsPolicy"], pod["spec"]["restartPolicy"]) == ("None", "Always")
