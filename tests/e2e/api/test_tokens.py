"""Tokens of service accounts: whose they are, whom they are for, and what they end with."""

from __future__ import annotations

import json

import pytest
from own_server import Api, manifest

pytestmark = pytest.mark.feature("C3", "C7")

AUTHENTICATION = "authentication.k8s.io/v1"


@pytest.fixture
def account(api: Api, namespace: str) -> str:
    api.out("create", "serviceaccount", "worker", "-n", namespace)
    spec = {"serviceAccountName": "worker", "containers": [{"name": "c", "image": "nginx"}]}
    api.out("create", "-n", namespace, "-f", "-", stdin=manifest("Pod", "box", spec=spec))
    return "worker"


def whoami(api: Api, token: str) -> dict:
    shown = api.kubectl(
        "auth", "whoami", "-o", "json", f"--token={token}", "--kubeconfig", anonymous(api), check=False
    )
    return json.loads(shown.stdout)["status"]["userInfo"] if shown.returncode == 0 else {}


def anonymous(api: Api) -> str:
    """A kubeconfig that knows where the server is, and no certificate."""
    config = json.loads(api.out("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": each["name"], "user": {}} for each in config["users"]]
    path = api.directory / "anonymous.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def test_a_token_tells_whose_it_is_and_what_it_is_bound_to(api: Api, namespace: str, account: str) -> None:
    token = api.out(
        "create", "token", account, "-n", namespace, "--bound-object-kind=Pod", "--bound-object-name=box"
    ).strip()
    user = whoami(api, token)
    assert user["username"] == f"system:serviceaccount:{namespace}:worker"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["box"]
    assert user["uid"] == api.json("get", "serviceaccount", account, "-n", namespace)["metadata"]["uid"]


@pytest.mark.parametrize("gone", ["pod/box", "serviceaccount/worker"])
def test_a_token_ends_with_its_pod_and_its_account(api: Api, namespace: str, account: str, gone: str) -> None:
    bound = ("--bound-object-kind=Pod", "--bound-object-name=box")
    token = api.out("create", "token", account, "-n", namespace, *bound).strip()
    assert whoami(api, token)
    api.out("delete", gone, "-n", namespace, "--force", "--grace-period=0")
    assert not whoami(api, token)


def test_a_token_for_somebody_else_is_no_key_to_this_server(api: Api, namespace: str, account: str) -> None:
    token = api.out("create", "token", account, "-n", namespace, "--audience=vault").strip()
    assert not whoami(api, token)
    for audiences, known in ((["vault", "bank"], ["vault"]), (["bank"], None)):
        spec = {"token": token, "audiences": audiences}
        review = manifest("TokenReview", "", AUTHENTICATION, spec=spec)
        status = json.loads(api.out("create", "-f", "-", "-o", "json", "--validate=false", stdin=review))[
            "status"
        ]
        assert status.get("audiences") == known
        assert status["authenticated"] is bool(known)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"expirationSeconds": 5},
            "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than",
        ),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}, 'pods "none" not found'),
        (
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "box", "uid": "x"}},
            "the UID in the bound object reference (x) does not match",
        ),
        (
            {"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "x"}},
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
        ({"expirationSeconds": "long"}, "cannot unmarshal string into Go struct field TokenRequestSpec"),
    ],
)
def test_requests_for_tokens_that_break_a_rule(
    api: Api, namespace: str, account: str, spec: dict, told: str
) -> None:
    request = json.dumps({"kind": "TokenRequest", "apiVersion": AUTHENTICATION, "spec": spec})
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    assert told in api.refused("create", "--raw", path, "-f", "-", stdin=request)


def test_a_token_is_for_pods_of_that_account(api: Api, namespace: str, account: str) -> None:
    api.out("create", "serviceaccount", "other", "-n", namespace)
    bound = ("--bound-object-kind=Pod", "--bound-object-name=box")
    told = api.refused("create", "token", "other", "-n", namespace, *bound)
    assert "running with different serviceaccount name" in told


def test_a_node_gets_tokens_for_its_own_pods_only(api: Api, namespace: str, account: str) -> None:
    node = ("--kubeconfig", str(api.directory / "node.kubeconfig"))
    bound = ("--bound-object-kind=Pod", "--bound-object-name=box", "--bound-object-uid")
    uid = api.json("get", "pod", "box", "-n", namespace)["metadata"]["uid"]
    ask = ("create", "token", account, "-n", namespace)
    assert "not bound to a pod" in api.refused(*ask, *node)
    assert "on a different node" in api.refused(*ask, *bound, uid, *node)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "box"},
        "target": {"name": "node01"},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/box/binding"
    api.out("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    assert api.out(*ask, *bound, uid, *node).count(".") == 2
