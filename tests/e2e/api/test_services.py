"""Services of all types, Ingresses, and the Service range."""

from __future__ import annotations

import pytest
from own_server import Api, manifest


def test_services_of_all_kinds(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    ports = [{"port": 80}]
    for name, spec in (
        ("chosen", {"clusterIP": "10.96.200.200", "ports": ports}),
        ("headless", {"clusterIP": "None", "selector": {"a": "b"}}),
        ("outer", {"type": "ExternalName", "externalName": "example.com"}),
        ("fixed", {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}),
        ("balanced", {"type": "LoadBalancer", "ports": ports}),
    ):
        api.out("create", "-f", "-", *here, stdin=manifest("Service", name, spec=spec))
    rows = {line.split()[0]: line.split()[1:5] for line in api.out("get", "svc", *here).splitlines()[1:]}
    assert rows["chosen"][1] == "10.96.200.200"
    assert rows["headless"] == ["ClusterIP", "None", "<none>", "<none>"]
    assert rows["outer"] == ["ExternalName", "<none>", "example.com", "<none>"]
    assert rows["fixed"][3] == "80:30123/TCP"
    assert rows["balanced"][2] == "<pending>"
    again = manifest("Service", "again", spec={"clusterIP": "10.96.200.200", "ports": ports})
    assert "already allocated" in api.refused("create", "-f", "-", *here, stdin=again)
    api.out("delete", "service", "chosen", *here)
    api.out("create", "-f", "-", *here, stdin=again)


@pytest.mark.feature("C3")
def test_ingresses_classes_and_the_service_range(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "ingress", "web", "--class=nginx", "--rule=a.example/*=web:80", *here)
    line = api.out("get", "ingress", *here).splitlines()[1].split()
    assert line[:4] == ["web", "nginx", "a.example", "80"]
    api.out(
        "create",
        "-f",
        "-",
        stdin=manifest("IngressClass", "nginx", "networking.k8s.io/v1", spec={"controller": "x/y"}),
    )
    assert "x/y" in api.out("get", "ingressclasses")
    assert "10.96.0.0/12" in api.out("get", "servicecidrs")
    wrong = manifest("Ingress", "w", "networking.k8s.io/v1", spec={"rules": [{"http": {"paths": [{}]}}]})
    assert "pathType must be specified" in api.refused("create", *here, "-f", "-", stdin=wrong)


@pytest.mark.feature("C3")
def test_a_further_range_gives_addresses_until_it_is_deleted(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    more = manifest("ServiceCIDR", "more", "networking.k8s.io/v1", spec={"cidrs": ["10.200.0.0/28"]})
    spec = {"clusterIP": "10.200.0.5", "ports": [{"port": 80}]}
    inside = manifest("Service", "inside", spec=spec)
    assert "not in the valid range" in api.refused("create", *here, "-f", "-", stdin=inside)
    api.out("create", "-f", "-", stdin=more)
    api.out("wait", "servicecidr/more", "--for=condition=Ready", "--timeout=5s")
    api.out("create", *here, "-f", "-", stdin=inside)
    assert f"services/{namespace}/inside" in api.out("get", "ipaddress", "10.200.0.5")
    told = api.refused("delete", "ipaddress", "10.200.0.5")
    assert "IPAddresses follow from the Services that have them" in told
    patch = '[{"op":"replace","path":"/spec/cidrs/0","value":"10.201.0.0/28"}]'
    assert "field is immutable" in api.refused("patch", "servicecidr", "more", "--type=json", "-p", patch)
    api.out("delete", "servicecidr", "more", "--wait=false")
    api.out("wait", "servicecidr/more", "--for=condition=Ready=false", "--timeout=5s")
    other = inside.replace("10.200.0.5", "10.200.0.6").replace("inside", "other")
    assert "not in the valid range" in api.refused("create", *here, "-f", "-", stdin=other)
    api.out("delete", "service", "inside", *here)
    api.out("wait", "servicecidr/more", "--for=delete", "--timeout=10s")
    api.out("delete", "servicecidr", "kubernetes", "--wait=false")
    assert "Terminating" in api.out("get", "servicecidr", "kubernetes", "-o", "yaml")
