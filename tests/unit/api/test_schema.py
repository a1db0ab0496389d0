"""Unknown fields are found where they are, and only they."""

from pathlib import Path

import pytest
import yaml

from testbed.api import schema

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def test_every_type_that_is_named_is_there() -> None:
    named = {name for fields in schema.TYPES.values() for name in fields.values() if name}
    assert named <= set(schema.TYPES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_have_known_fields_only(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document and "kind" in document:
            assert schema.unknown(document["kind"], document) == []


@pytest.mark.feature("C5")
def test_unknown_fields_are_told_by_their_path() -> None:
    container = {"name": "c", "imagee": "x", "ports": [{"containerPort": 1}, {"port": 2}]}
    pod = {"kind": "Pod", "spec": {"containers": [container]}, "more": 1, "metadata": {"label": {}}}
    assert schema.unknown("Pod", pod) == [
        "spec.containers[0].imagee",
        "spec.containers[0].ports[1].port",
        "more",
        "metadata.label",
    ]
    assert schema.unknown("Anything", {"x": 1}) == []
