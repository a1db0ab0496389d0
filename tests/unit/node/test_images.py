from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.errors import UsageError
from testbed.node.images import ImageError, parse_mapping, plain_name, resolve

HERE = Path("/pod")


def container(image: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "image": image, **more}


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.25", "nginx"),
        ("docker.io/library/nginx:1.25@sha256:ab", "nginx"),
        ("localhost:5000/a/b:c", "a/b"),
        ("testbed/echo", "testbed/echo"),
    ],
)
def test_the_plain_name_has_no_registry_and_no_tag(image: str, name: str) -> None:
    assert plain_name(image) == name


def test_nginx_is_the_real_one_with_a_configuration_of_the_pods_own() -> None:
    program = resolve(container("nginx:1.27"), HERE)
    assert program.argv == ("nginx", "-c", "/pod/c.nginx.conf")
    assert program.listens == (("tcp", 80),)
    assert "listen 80;" in (program.files or {})["c.nginx.conf"]


def test_echo_listens_on_the_declared_ports_or_those_of_its_arguments() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
    program = resolve(container("testbed/echo", ports=ports), HERE)
    assert program.argv == ("testbed", "echo", "--tcp=80", "--udp=53")
    assert program.listens == (("tcp", 80), ("udp", 53))
    program = resolve(container("testbed/echo", args=["--http", "81"]), HERE)
    assert (program.argv[2:], program.listens) == (("--http", "81"), (("tcp", 81),))


def test_an_image_that_nobody_mapped_gets_the_stand_in_and_says_so() -> None:
    program = resolve(container("mysql:8", ports=[{"containerPort": 3306}]), HERE)
    assert program.argv == ("testbed", "echo", "--tcp=3306")
    assert "'mysql:8' maps to no program" in program.notice


def test_the_users_mapping_comes_first_and_a_missing_program_is_said() -> None:
    mapped = [parse_mapping("my*=/bin/sh"), parse_mapping("gone=/nonexistent")]
    assert resolve(container("mysql:8", args=["-c", "x"]), HERE, mapped).argv == ("/bin/sh", "-c", "x")
    with pytest.raises(ImageError, match="/nonexistent"):
        resolve(container("gone"), HERE, mapped)
    with pytest.raises(UsageError, match="GLOB=PATH"):
        parse_mapping("nonsense")


def test_a_command_runs_as_given() -> None:
    program = resolve(container("nginx", command=["sh", "-c"], args=["sleep 1"]), HERE)
    assert (program.argv, program.listens) == (("sh", "-c", "sleep 1"), ())
