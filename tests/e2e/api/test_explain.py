"""What clients learn of the kinds: discovery, `kubectl explain`, and OpenAPI in its forms."""

from __future__ import annotations

import json

import pytest
from own_server import Api

pytestmark = pytest.mark.feature("C4")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            "service.spec.ports",
            ["FIELD: ports <[]ServicePort>", "port\t<integer> -required-", "TCP, UDP or SCTP"],
        ),
        ("service.spec.ports.targetPort", ["FIELD: targetPort <IntOrString>"]),
        ("deployment.spec.template.spec.containers.resources", ["limits\t<map[string]Quantity>"]),
        ("deploy.spec.strategy", ["GROUP:      apps", "RollingUpdate or Recreate."]),
        ("endpointslice.endpoints.conditions", ["serving\t<boolean>"]),
        ("ingress.spec.rules.http.paths.backend.service.port", ["number\t<integer>"]),
        ("pdb.spec", ["minAvailable\t<IntOrString>"]),
        ("clusterrole.aggregationRule", ["clusterRoleSelectors\t<[]LabelSelector>"]),
        ("pod.metadata.ownerReferences", ["uid\t<string> -required-"]),
    ],
)
def test_fields_are_explained(api: Api, path: str, told: list[str]) -> None:
    shown = api.out("explain", path)
    assert [each for each in told if each not in shown] == []


def test_whole_trees_are_explained(api: Api) -> None:
    shown = api.out("explain", "deployment", "--recursive")
    lines = {line.strip() for line in shown.splitlines()}
    assert {
        "containerPort\t<integer> -required-",
        "maxSurge\t<IntOrString>",
        "mountPath\t<string> -required-",
    } <= lines
    assert len(shown.splitlines()) > 400


def test_older_clients_explain_by_openapi_v2(api: Api) -> None:
    shown = api.out("explain", "service.spec", "--output=plaintext-openapiv2")
    assert "clusterIPs\t<[]string>" in shown


def test_what_is_not_there_is_not_explained(api: Api) -> None:
    assert 'field "prots" does not exist' in api.refused("explain", "service.spec.prots")


def test_the_documents_say_who_is_who_and_how_lists_merge(api: Api) -> None:
    listed = json.loads(api.out("get", "--raw", "/openapi/v3"))["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/policy/v1"} <= set(listed)
    apps = json.loads(api.out("get", "--raw", listed["apis/apps/v1"]["serverRelativeURL"]))
    schemas = apps["components"]["schemas"]
    assert schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"] == [
        {"group": "apps", "version": "v1", "kind": "Deployment"}
    ]
    ports = schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"]
    assert ports["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    assert ports["x-kubernetes-patch-merge-key"] == "containerPort"
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale" in apps["paths"]
    old = json.loads(api.out("get", "--raw", "/openapi/v2"))
    assert set(schemas) <= set(old["definitions"])


def test_every_reference_leads_somewhere(api: Api) -> None:
    for path in json.loads(api.out("get", "--raw", "/openapi/v3"))["paths"]:
        text = api.out("get", "--raw", f"/openapi/v3/{path}")
        schemas = json.loads(text)["components"]["schemas"]
        named = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
        assert named <= set(schemas), path


def test_short_names_and_categories(api: Api) -> None:
    kinds = {
        line.split()[0]: line.split()[1] for line in api.out("api-resources", "--no-headers").splitlines()
    }
    assert kinds["services"] == "svc"
    assert kinds["poddisruptionbudgets"] == "pdb"
    everything = set(api.out("api-resources", "--categories=all", "-o", "name").split())
    assert {"pods", "services", "deployments.apps", "jobs.batch"} <= everything
