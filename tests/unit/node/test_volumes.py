from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from testbed.client import Client, NotFound
from testbed.model.resources import SECRETS, Resource
from testbed.node.accounts import Tokens
from testbed.node.environment import environment
from testbed.node.process import Mount
from testbed.node.references import MissingReference, References
from testbed.node.volumes import MountError, Setting, mounts, place, prepare, write

OBJECTS = {
    ("secrets", "tls"): {"kind": "Secret", "data": {"a.key": base64.b64encode(b"\x00k").decode()}},
    ("configmaps", "conf"): {
        "kind": "ConfigMap",
        "data": {"color": "blue", "size": "7"},
        "binaryData": {"b": base64.b64encode(b"\xff").decode()},
    },
}
FACTS = {
    "POD_IP": "",
    "POD_IPS": "",
    "HOST_IP": "172.30.0.11",
    "HOST_IPS": "172.30.0.11",
    "NODE_NAME": "node01",
    "HOSTNAME": "p",
}


class Api(Client):
    """A server with the two objects above."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        self.asked += 1
        assert namespace == "default"
        try:
            return OBJECTS[resource.plural, name]
        except KeyError:
            raise NotFound({"message": name, "code": 404}) from None

    async def create(
        self, resource: Resource, obj: dict[str, Any], *, subresource: str | None = None
    ) -> dict[str, Any]:
        assert (resource.kind, obj["metadata"]["name"], subresource) == ("ServiceAccount", "default", "token")
        token = f"of {obj['spec']['boundObjectRef']['name']}"
        return {"status": {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"}}


def pod(*volumes: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "default", "uid": "u", "labels": {"b": "2", "a": "1"}}
    return {"metadata": metadata, "spec": {"volumes": list(volumes)}}


def fill(directory: Path, *volumes: dict[str, Any]) -> None:
    setting = Setting(pod(*volumes), References(Api(), "default"), FACTS, Tokens(Api()))
    asyncio.run(prepare(setting, directory))


def read(directory: Path, name: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in place(directory, name).iterdir() if file.is_file()}


def test_secrets_and_config_maps_become_files(tmp_path: Path) -> None:
    items = [{"key": "color", "path": "c", "mode": 0o400}]
    fill(
        tmp_path,
        {"name": "s", "secret": {"secretName": "tls", "defaultMode": 0o640}},
        {"name": "c", "configMap": {"name": "conf"}},
        {"name": "some", "configMap": {"name": "conf", "items": items}},
        {"name": "none", "secret": {"secretName": "gone", "optional": True}},
    )
    assert read(tmp_path, "s") == {"a.key": b"\x00k"}
    assert (place(tmp_path, "s") / "a.key").stat().st_mode & 0o777 == 0o640
    assert read(tmp_path, "c") == {"color": b"blue", "size": b"7", "b": b"\xff"}
    assert read(tmp_path, "some") == {"c": b"blue"}
    assert (place(tmp_path, "some") / "c").stat().st_mode & 0o777 == 0o400
    assert read(tmp_path, "none") == {}


def test_several_sources_in_one_directory(tmp_path: Path) -> None:
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    sources = [{"secret": {"name": "tls"}}, {"downwardAPI": labels}, {"serviceAccountToken": {"path": "t"}}]
    fill(tmp_path, {"name": "all", "projected": {"sources": sources}})
    assert read(tmp_path, "all") == {"a.key": b"\x00k", "labels": b'a="1"\nb="2"', "t": b"of p"}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"secret": {"secretName": "gone"}}, 'for volume "v" : secret "gone" not found'),
        ({"configMap": {"name": "conf", "items": [{"key": "x", "path": "x"}]}}, "non-existent configmap key"),
        ({"configMap": {"name": "conf", "items": [{"key": "size", "path": "../x"}]}}, "out of the volume"),
        ({"hostPath": {"path": "/nonexistent", "type": "Directory"}}, "/nonexistent is not a directory"),
        ({"nfs": {"server": "x"}}, "kind 'nfs' are not known"),
    ],
)
def test_a_volume_that_cannot_be_is_told(tmp_path: Path, volume: dict[str, Any], message: str) -> None:
    with pytest.raises(MountError, match=message):
        fill(tmp_path, {"name": "v", **volume})


def test_files_change_all_at_once_and_old_ones_go(tmp_path: Path) -> None:
    write(tmp_path, {"a": (b"1", 0o644), "d/b": (b"2", 0o644)})
    write(tmp_path, {"a": (b"3", 0o644)})
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.startswith("..")) == ["a"]
    assert (tmp_path / "a").read_text() == "3"
    before = (tmp_path / "..data").readlink()
    write(tmp_path, {"a": (b"3", 0o644)})
    assert (tmp_path / "..data").readlink() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_container_sees(tmp_path: Path) -> None:
    volumes = (
        {"name": "s", "secret": {"secretName": "tls"}},
        {"name": "e", "emptyDir": {}},
        {"name": "h", "hostPath": {"path": "/srv"}},
    )
    fill(tmp_path, *volumes[:2])
    mounted = [
        {"name": "s", "mountPath": "/tls/x", "subPath": "a.key"},
        {"name": "e", "mountPath": "/tls"},
        {"name": "e", "mountPath": "/own", "subPathExpr": "$(NAME)"},
        {"name": "h", "mountPath": "/srv", "readOnly": True},
    ]
    made = mounts(pod(*volumes), {"volumeMounts": mounted}, tmp_path, {"NAME": "me"})
    assert made == (
        Mount(str(place(tmp_path, "e") / "me"), "/own"),
        Mount("/srv", "/srv", readonly=True),
        Mount(str(place(tmp_path, "e")), "/tls"),
        Mount(str(place(tmp_path, "s") / "a.key"), "/tls/x", readonly=True),
    )
    assert (place(tmp_path, "e") / "me").is_dir()
    with pytest.raises(MountError, match="not in volume 's'"):
        mounts(pod(*volumes), {"volumeMounts": [{**mounted[0], "subPath": "z"}]}, tmp_path, {})


def test_an_environment_takes_values_from_elsewhere_and_says_which_it_misses() -> None:
    def key(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
        return {"valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}

    container = {
        "envFrom": [{"prefix": "C_", "configMapRef": {"name": "conf"}}],
        "env": [
            {"name": "SIZE", **key("configMap", "conf", "size")},
            {"name": "BOTH", "value": "$(SIZE)-$(C_color)"},
            {"name": "NOT", **key("secret", "tls", "gone", optional=True)},
        ],
    }
    api = Api()
    values = asyncio.run(References(api, "default").values(container))
    built = environment(pod(), container, FACTS, [], values)
    assert (built["SIZE"], built["BOTH"], "NOT" in built) == ("7", "7-blue", False)
    assert api.asked == 2
    for wanted, message in (
        (key("secret", "tls", "gone"), "couldn't find key gone in Secret default/tls"),
        (key("secret", "nope", "x"), 'secret "nope" not found'),
    ):
        with pytest.raises(MissingReference, match=message):
            asyncio.run(References(Api(), "default").values({"env": [{"name": "X", **wanted}]}))
    assert asyncio.run(References(Api(), "default").contents(SECRETS, "nope", optional=True)) == {}
