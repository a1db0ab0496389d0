"""Who may do what: roles, nodes, anonymous callers."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing

import pytest
from own_server import Api, manifest, pod


def as_user(api: Api, user: str, *words: str, stdin: str = "") -> str:
    """What kubectl says, whether it is an answer or a refusal."""
    config = api.directory / f"{user}.kubeconfig"
    done = api.kubectl("--kubeconfig", str(config), *words, stdin=stdin, check=False)
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.mark.feature("C7")
def test_who_may_do_what(api: Api) -> None:
    assert "kubernetes" in as_user(api, "proxy", "get", "services", "-A")
    told = as_user(api, "proxy", "get", "secrets", "-A")
    assert 'User "system:kube-proxy" cannot list resource "secrets"' in told
    assert 'cannot delete resource "services"' in as_user(api, "node", "delete", "service", "kubernetes")


@pytest.mark.feature("C7")
def test_a_node_writes_what_is_its_own(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    for name in ("node01", "node02"):
        told = as_user(api, "node", "create", "-f", "-", stdin=manifest("Node", name))
        assert ("created" in told) == (name == "node01"), told
    api.out("create", "-f", "-", stdin=manifest("Node", "node02"))
    assert 'not allowed to modify node "node02"' in as_user(api, "node", "label", "node", "node02", "a=b")
    assert "labeled" in as_user(api, "node", "label", "node", "node01", "a=b")
    for name, told in (("node01", "created"), ("node02", "same name as the requesting node")):
        lease = manifest("Lease", name, "coordination.k8s.io/v1")
        assert told in as_user(api, "node", "create", "-n", "kube-node-lease", "-f", "-", stdin=lease)
    api.out("create", *here, "-f", "-", stdin=pod("mine", "node01") + "\n" + pod("others", "node02"))
    patch = ("--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
    assert "patched" in as_user(api, "node", "patch", "pod", "mine", *here, *patch)
    assert "spec.nodeName set to itself" in as_user(api, "node", "patch", "pod", "others", *here, *patch)
    for name in ("asked-for", "secret"):
        api.out("create", "configmap", name, *here)
    container = {"name": "c", "image": "x", "envFrom": [{"configMapRef": {"name": "asked-for"}}]}
    spec = {"nodeName": "node01", "containers": [container]}
    api.out("create", *here, "-f", "-", stdin=manifest("Pod", "reads", spec=spec))
    assert "asked-for" in as_user(api, "node", "get", "configmap", "asked-for", *here)
    assert "no relationship found" in as_user(api, "node", "get", "configmap", "secret", *here)
    api.out("delete", "nodes", "node01", "node02")
    api.out("delete", "lease", "node01", "-n", "kube-node-lease")


def test_roles_and_bindings_give_and_take(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "serviceaccount", "robot", *here)
    token = api.out("create", "token", "robot", *here).strip()
    me, ours = f"system:serviceaccount:{namespace}:robot", f"{namespace}:robot"

    def told(*words: str) -> str:
        flags = ["--kubeconfig=/dev/null", f"--server=https://127.0.0.1:{api.port}", f"--token={token}"]
        flags.append(f"--certificate-authority={api.directory / 'pki/ca.crt'}")
        done = api.kubectl(*flags, *words, check=False)
        return done.stdout + done.stderr

    assert me in told("auth", "whoami")
    assert told("auth", "can-i", "list", "pods", *here) == "no\n"
    assert f'User "{me}" cannot list resource "pods"' in told("get", "pods", *here)
    api.out("create", "role", "reader", "--verb=get,list", "--resource=pods", *here)
    api.out("create", "rolebinding", "robot", "--role=reader", f"--serviceaccount={ours}", *here)
    assert told("auth", "can-i", "list", "pods", *here) == "yes\n"
    assert "No resources found" in told("get", "pods", *here)
    assert "no\n" in told("auth", "can-i", "list", "pods", "-A")
    assert "pods" in told("auth", "can-i", "--list", *here)
    assert api.out("auth", "can-i", "delete", "pods", *here) == "yes\n"
    assert "Role/reader" in api.out("get", "rolebindings", *here)
    assert api.out("auth", "can-i", "list", "pods", *here, "--as", me) == "yes\n"
    assert "cannot impersonate" in told("get", "pods", *here, "--as=kubernetes-admin")
    api.out("delete", "rolebinding", "robot", *here)
    assert "cannot list" in told("get", "pods", *here)
    group = f"--group=system:serviceaccounts:{namespace}"
    api.out("create", "clusterrolebinding", "robots", "--clusterrole=view", group)
    assert "No resources found" in told("get", "pods", *here)
    assert "cannot list" in told("get", "secrets", *here)
    api.out("delete", "clusterrolebinding", "robots")
    api.out("delete", "serviceaccount", "robot", *here)
    assert "Unauthorized" in told("get", "--raw", "/api")


@pytest.mark.feature("C7")
def test_anonymous_callers_see_health_and_version_only(api: Api) -> None:
    def ask(path: str, **headers: str) -> int:
        trust = ssl.create_default_context(cafile=str(api.directory / "pki" / "ca.crt"))
        with closing(http.client.HTTPSConnection("127.0.0.1", api.port, context=trust)) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    assert [ask(path) for path in ("/healthz", "/livez", "/readyz", "/version")] == [200] * 4
    assert [ask(path) for path in ("/api/v1/services", "/api", "/openapi/v3", "/")] == [403] * 4
    assert ask("/version", Authorization="Bearer nobody") == 401


@pytest.mark.feature("C7")
def test_nobody_gives_rights_that_he_has_not(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    who = f"keeper-{namespace}"
    api.out(
        "create", "role", "keeper", "--verb=get,create,update,patch", "--resource=roles,rolebindings", *here
    )
    api.out("create", "role", "reader", "--verb=get,list", "--resource=pods", *here)
    for role in ("keeper", "reader"):
        api.out("create", "rolebinding", role, f"--role={role}", f"--user={who}", *here)

    def told(*words: str) -> str:
        done = api.kubectl(*words, *here, f"--as={who}", check=False)
        return done.stdout + done.stderr

    assert "created" in told("create", "role", "lister", "--verb=list", "--resource=pods")
    refused = told("create", "role", "killer", "--verb=delete", "--resource=pods")
    assert (
        f'user "{who}" (groups=["system:authenticated"]) is attempting to grant RBAC permissions' in refused
    )
    assert '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}' in refused
    worse = '[{"op":"add","path":"/rules/0/verbs/-","value":"*"}]'
    assert "attempting to grant" in told("patch", "role", "lister", "--type=json", "-p", worse)
    label = '{"metadata":{"labels":{"a":"b"}}}'
    assert "patched" in told("patch", "role", "keeper", "-p", label)
    assert "created" in told("create", "rolebinding", "b1", "--role=lister", "--user=x")
    assert "attempting to grant" in told("create", "rolebinding", "b2", "--clusterrole=admin", "--user=x")
    for verb, kind in (("escalate", "roles"), ("bind", "clusterroles")):
        api.out(
            "create", "role", verb, f"--verb={verb}", f"--resource={kind}.rbac.authorization.k8s.io", *here
        )
        api.out("create", "rolebinding", verb, f"--role={verb}", f"--user={who}", *here)
    assert "created" in told("create", "role", "killer", "--verb=delete", "--resource=pods")
    assert "created" in told("create", "rolebinding", "b2", "--clusterrole=admin", "--user=x")
