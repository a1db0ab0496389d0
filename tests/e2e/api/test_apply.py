"""Server-side apply: managers, conflicts, lists by their keys."""

from __future__ import annotations

import pytest
from own_server import DEPLOYMENT, Api


@pytest.mark.feature("C2")
def test_dry_run_and_server_side_apply(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", "--dry-run=server", "-f", "-", *here, stdin=DEPLOYMENT)
    assert api.out("get", "deployments,services", "-o", "name", *here) == ""
    api.out("apply", "--server-side", "-f", "-", *here, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 3", "replicas: 4")
    api.out("apply", "--server-side", "-f", "-", *here, stdin=changed)
    assert api.json("get", "deployment", "web", *here)["spec"]["replicas"] == 4


@pytest.mark.feature("C2")
def test_fields_have_managers_and_managers_have_conflicts(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    both = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {a: b}}\ndata: {x: '1', w: '1'}\n"
    apply = ("apply", "--server-side", *here, "-f", "-")
    api.out(*apply, "--field-manager=one", stdin=both)
    before = api.json("get", "configmap", "m", *here, "--show-managed-fields")
    (entry,) = before["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    labelled = {"f:labels": {"f:a": {}}}
    assert entry["fieldsV1"] == {"f:data": {"f:x": {}, "f:w": {}}, "f:metadata": labelled}
    api.out(*apply, "--field-manager=one", stdin=both)
    assert api.json("get", "configmap", "m", *here, "--show-managed-fields") == before
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {x: '2', z: '2'}\n"
    told = api.refused(*apply, "--field-manager=two", stdin=other)
    assert 'Apply failed with 1 conflict: conflict with "one" using v1: .data.x' in told
    api.out(*apply, "--field-manager=two", "--force-conflicts", stdin=other)
    api.out("patch", "configmap", "m", *here, "-p", '{"data":{"w":"3"}}')
    assert 'conflict with "kubectl-patch" using v1: .data.w' in api.refused(
        *apply, "--field-manager=one", stdin=both.replace("x: '1', ", "")
    )
    api.out(*apply, "--field-manager=one", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n")
    held = api.json("get", "configmap", "m", *here)
    assert held["data"] == {"x": "2", "w": "3", "z": "2"}
    assert "labels" not in held["metadata"] or held["metadata"]["labels"] == {}


def test_lists_are_applied_by_their_keys(api: Api, namespace: str) -> None:
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    port = "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{}]}}\n"
    web, dns = "{name: web, port: 80}", "{name: dns, port: 53, protocol: UDP}"
    api.out(*apply, "--field-manager=one", stdin=port.format(web))
    api.out(*apply, "--field-manager=two", stdin=port.format(dns))

    def ports() -> list[str]:
        return [each["name"] for each in api.json("get", "service", "s", "-n", namespace)["spec"]["ports"]]

    assert ports() == ["web", "dns"]
    api.out(*apply, "--field-manager=one", stdin=port.format(dns))
    assert ports() == ["dns"]


def test_what_kubectl_applied_before_may_be_applied_by_the_server(api: Api, namespace: str) -> None:
    here = ("-n", namespace, "-f", "-")
    api.out("apply", *here, stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 3", "replicas: 4")
    api.out("apply", "--server-side", *here, stdin=changed)
    api.out("scale", "deployment", "web", "--replicas=6", "-n", namespace)
    told = api.refused("apply", "--server-side", *here, stdin=changed)
    assert ".spec.replicas" in told
    assert 'conflict with "kubectl"' in told
