from __future__ import annotations

from typing import Any

import pytest

from testbed.node.environment import discovery, environment, expand

FACTS = {
    "POD_IP": "10.244.1.2",
    "POD_IPS": "10.244.1.2",
    "HOST_IP": "172.30.0.11",
    "HOST_IPS": "172.30.0.11",
    "NODE_NAME": "node01",
    "HOSTNAME": "web-1",
}


def service(name: str, ip: str, *ports: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "spec": {"clusterIP": ip, "ports": list(ports)}}


@pytest.mark.feature("A19")
def test_the_variables_are_those_of_the_documentation() -> None:
    redis = service("redis-primary", "10.0.0.11", {"port": 6379, "protocol": "TCP"})
    assert discovery([redis]) == {
        "REDIS_PRIMARY_SERVICE_HOST": "10.0.0.11",
        "REDIS_PRIMARY_SERVICE_PORT": "6379",
        "REDIS_PRIMARY_PORT": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
        "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.0.0.11",
    }


@pytest.mark.feature("A19")
def test_every_named_port_has_its_variable_and_headless_services_have_none() -> None:
    web = service("web", "10.0.0.1", {"name": "http", "port": 80}, {"name": "https-alt", "port": 8443})
    found = discovery([web, service("headless", "None", {"port": 1})])
    assert found["WEB_SERVICE_PORT"] == found["WEB_SERVICE_PORT_HTTP"] == "80"
    assert found["WEB_SERVICE_PORT_HTTPS_ALT"] == "8443"
    assert not any(name.startswith("HEADLESS") for name in found)


def test_own_variables_expand_what_came_before_and_see_the_downward_api() -> None:
    env = [
        {"name": "A", "value": "x"},
        {"name": "B", "value": "$(A)-$(MISSING)-$$(A)-$(WEB_SERVICE_HOST)"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
    ]
    metadata = {"name": "web-1", "namespace": "default", "uid": "u", "labels": {"app": "web"}}
    pod = {"metadata": metadata, "spec": {}}
    built = environment(pod, {"env": env}, FACTS, [service("web", "10.0.0.1", {"port": 80})])
    assert built["B"] == "x-$(MISSING)-$(A)-10.0.0.1"
    assert (built["NODE"], built["APP"], built["HOSTNAME"]) == ("node01", "web", "web-1")


def test_expand_leaves_other_dollars_alone() -> None:
    assert expand("$A $ $(A", {"A": "x"}) == "$A $ $(A"
