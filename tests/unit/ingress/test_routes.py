from __future__ import annotations

from typing import Any

import pytest

from testbed.ingress.routes import ANY_HOST, CONTROLLER, IS_DEFAULT, World, is_ours, sites

WORLD = World(
    services={
        "default/web": {"spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}},
        "default/six": {"spec": {"clusterIP": "fd00::7", "ports": [{"port": 80}]}},
        "default/direct": {"spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}},
    },
    slices={
        "default/direct": [
            {
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": [
                    {"addresses": ["10.244.1.2"], "conditions": {"ready": True}},
                    {"addresses": ["10.244.1.3"], "conditions": {"ready": False}},
                ],
            }
        ]
    },
)


def backend(name: str = "web", **port: Any) -> dict[str, Any]:
    return {"service": {"name": name, "port": port or {"number": 80}}}


def path(text: str, kind: str = "Prefix", **to: Any) -> dict[str, Any]:
    return {"path": text, "pathType": kind, "backend": backend(**to)}


def ingress(name: str = "a", age: str = "2026-01-01", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "creationTimestamp": age}, "spec": spec}


def rule(host: str, *paths: dict[str, Any]) -> dict[str, Any]:
    return {"host": host, "http": {"paths": list(paths)}}


def test_a_backend_is_reached_where_its_service_is() -> None:
    paths = [path("/"), path("/6", name="six"), path("/d", name="direct"), path("/x", name="nobody")]
    _, site = sites([ingress(rules=[rule("h", *paths)])], WORLD)
    assert [each.servers for each in site.routes] == [
        ("10.96.0.7:80",),
        ("[fd00::7]:80",),
        ("10.244.1.2:8080",),
        (),
    ]


def test_ports_are_meant_by_number_or_by_name() -> None:
    both = rule("h", {"path": "/", "backend": backend(name="http")}, path("/n"))
    both["http"]["paths"][0]["backend"] = {"service": {"name": "web", "port": {"name": "http"}}}
    _, site = sites([ingress(rules=[both])], WORLD)
    assert {each.servers for each in site.routes} == {("10.96.0.7:80",)}
    wrong = {"path": "/", "backend": {"service": {"name": "web", "port": {"number": 81}}}}
    _, site = sites([ingress(rules=[rule("h", wrong)])], WORLD)
    assert site.routes[0].servers == ()


def test_the_older_of_two_has_the_path() -> None:
    old = ingress("z", "2026-01-01", rules=[rule("h", path("/"))])
    new = ingress("a", "2026-01-02", rules=[rule("h", path("/", name="six"), path("/new"))])
    _, site = sites([new, old], WORLD)
    assert [(each.path, each.servers) for each in site.routes] == [
        ("/", ("10.96.0.7:80",)),
        ("/new", ("10.96.0.7:80",)),
    ]


def test_what_no_rule_takes_goes_to_the_default_backend() -> None:
    anything, site = sites([ingress(defaultBackend=backend(), rules=[rule("h", path("/a"))])], WORLD)
    assert anything.host == ANY_HOST
    assert anything.default == site.default == ("10.96.0.7:80",)
    anything, site = sites([ingress(rules=[rule("h", path("/a"))])], WORLD)
    assert anything.default is None is site.default


def test_hosts_have_their_certificate() -> None:
    tls = [{"hosts": ["a", "b"], "secretName": "s"}, {"secretName": "t"}]
    found = sites([ingress(rules=[rule("a", path("/")), rule("c", path("/"))], tls=tls)], WORLD)
    assert {site.host: site.secret for site in found} == {
        "": "",
        "a": "default/s",
        "b": "default/s",
        "c": "default/t",
    }


@pytest.mark.parametrize(
    ("asked", "default", "expected"),
    [("nginx", False, True), ("other", True, False), ("", True, True), ("", False, False)],
)
def test_whose_an_ingress_is(asked: str, default: bool, expected: bool) -> None:
    mark = {IS_DEFAULT: "true"} if default else {}
    classes = {
        "nginx": {"metadata": {"annotations": mark}, "spec": {"controller": CONTROLLER}},
        "other": {"metadata": {"annotations": {IS_DEFAULT: "true"}}, "spec": {"controller": "x"}},
    }
    assert is_ours(ingress(**({"ingressClassName": asked} if asked else {})), classes) is expected
    old = ingress()
    old["metadata"]["annotations"] = {"kubernetes.io/ingress.class": asked} if asked else {}
    assert is_ours(old, classes) is expected
