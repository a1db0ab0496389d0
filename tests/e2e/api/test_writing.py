"""kubectl create, apply, expose, scale, label, patch, delete."""

from __future__ import annotations

import json
from typing import Any

import pytest
from own_server import DEPLOYMENT, Api, manifest, pod


def assert_within(sent: Any, stored: Any, where: str) -> None:
    """All that was sent is stored; the server may have added to it."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            if value not in (None, {}) and key != "status":
                assert key in stored, f"{where}.{key}"
                assert_within(value, stored[key], f"{where}.{key}")
    elif isinstance(sent, list):
        assert len(sent) == len(stored), where
        for at, value in enumerate(sent):
            assert_within(value, stored[at], f"{where}[{at}]")
    else:
        assert sent == stored, where


@pytest.mark.feature("C1", "C2")
def test_apply_changes_only_what_changed(api: Api, namespace: str) -> None:
    for expected in ("created", "unchanged"):
        told = api.out("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
        assert told == f"deployment.apps/web {expected}\nservice/web {expected}\n"
    changed = DEPLOYMENT.replace("nginx:1.14", "nginx:1.15")
    told = api.out("apply", "-n", namespace, "-f", "-", stdin=changed)
    assert told == "deployment.apps/web configured\nservice/web unchanged\n"
    deployment = api.json("get", "deployment", "web", "-n", namespace)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nginx:1.15"
    assert container["ports"] == [{"containerPort": 80, "name": "http", "protocol": "TCP"}]
    assert deployment["metadata"]["generation"] == 2


@pytest.mark.feature("A23", "C2")
def test_expose_scale_label_annotate_patch(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", *here, "-f", "-", stdin=DEPLOYMENT)
    api.out("expose", "deployment", "web", "--name=inner", "--port=8080", "--target-port=80", *here)
    assert api.json("get", "service", "inner", *here)["spec"]["ports"][0]["targetPort"] == 80
    api.out("scale", "deployment", "web", "--replicas=5", *here)
    assert api.json("get", "deployment", "web", *here)["spec"]["replicas"] == 5
    api.out("label", "deployment", "web", "tier=front", *here)
    assert (
        api.out("get", "deployments", "-l", "tier in (front,back)", "-o", "name", *here)
        == "deployment.apps/web\n"
    )
    assert api.out("get", "deployments", "-l", "!tier", "-o", "name", *here) == ""
    api.out("annotate", "deployment", "web", "a=b", *here)
    patches = (
        ("strategic", '{"spec":{"ports":[{"port":443,"name":"tls"},{"port":80,"name":"web"}]}}'),
        ("merge", '{"spec":{"sessionAffinity":"ClientIP"}}'),
        ("json", '[{"op":"replace","path":"/spec/selector/app","value":"other"}]'),
    )
    for kind, text in patches:
        api.out("patch", "service", "web", "--type", kind, "-p", text, *here)
    spec = api.json("get", "service", "web", *here)["spec"]
    assert {(port["name"], port["port"]) for port in spec["ports"]} == {("web", 80), ("tls", 443)}
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert spec["selector"] == {"app": "other"}


@pytest.mark.feature("C1", "A23")
def test_the_create_commands_which_speak_protobuf(api: Api, namespace: str) -> None:
    """kubectl sends these in protobuf; what is stored is what its own dry run shows in JSON."""
    here = ("-n", namespace)
    for words in (
        ("configmap", "c", "--from-literal=a=b"),
        ("secret", "generic", "s", "--from-literal=p=q"),
        ("serviceaccount", "sa"),
        ("deployment", "d", "--image=nginx", "--port=80", "--replicas=0", "--", "sleep", "5"),
        ("job", "j", "--image=busybox", "--", "true"),
        ("service", "clusterip", "plain", "--tcp=80:8080", "--clusterip=10.96.100.100"),
        ("service", "clusterip", "headless", "--tcp=80:http", "--clusterip=None"),
        ("service", "nodeport", "np", "--tcp=80", "--node-port=30777"),
        ("service", "externalname", "en", "--external-name=example.com"),
    ):
        sent = json.loads(api.out("create", "--dry-run=client", "-o", "json", *here, *words))
        name = api.out("create", "-o", "name", *here, *words).strip()
        stored = api.json("get", name, *here)
        assert_within(sent, stored, name)
    api.out("create", "namespace", f"{namespace}-other")
    api.out("delete", "deployments,jobs", "--all", *here)


def test_a_scheduled_pod_ends_gracefully(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "-f", "-", *here, stdin=pod("bound", node="node01"))
    api.out("delete", "pod", "bound", "--wait=false", *here)
    held = api.json("get", "pod", "bound", *here)
    assert held["metadata"]["deletionGracePeriodSeconds"] == 30
    assert api.out("get", "pod", "bound", *here).splitlines()[1].split()[2] == "Terminating"
    api.out("delete", "pod", "bound", "--force", "--grace-period=0", *here)
    assert "not found" in api.refused("get", "pod", "bound", *here)


@pytest.mark.feature("C2")
def test_an_eviction_is_a_deletion_with_grace(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "-f", "-", *here, stdin=pod("victim", node="node01"))
    path = f"/api/v1/namespaces/{namespace}/pods/victim/eviction"
    eviction = manifest("Eviction", "victim", "policy/v1", deleteOptions={"gracePeriodSeconds": 5})
    assert '"Success"' in api.out("create", "--raw", path, "-f", "-", stdin=eviction)
    assert api.json("get", "pod", "victim", *here)["metadata"]["deletionGracePeriodSeconds"] == 5
    missing = path.replace("victim", "nobody")
    assert "not found" in api.refused("create", "--raw", missing, "-f", "-", stdin=eviction)


@pytest.mark.feature("C2", "C3")
def test_an_eviction_takes_what_its_budget_has_left(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    for name in ("a", "b"):
        api.out("create", "-f", "-", *here, stdin=pod(name, node="node01", labels={"app": "x"}))
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        api.out("patch", "pod", name, "--subresource=status", *here, "-p", json.dumps(ready))
    api.out("create", "poddisruptionbudget", "x", "--selector=app=x", "--min-available=1", *here)

    def evicted(name: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
        done = api.kubectl(
            "create",
            "-v=8",
            "--raw",
            path,
            "-f",
            "-",
            stdin=manifest("Eviction", name, "policy/v1"),
            check=False,
        )
        return done.stdout + done.stderr  # with what the server said of it

    assert "still being processed" in evicted("a")
    counted = {
        "observedGeneration": 1,
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
    }
    api.out(
        "patch",
        "pdb",
        "x",
        "--subresource=status",
        "--type=merge",
        *here,
        "-p",
        json.dumps({"status": counted}),
    )
    assert '"Success"' in evicted("a")
    assert "needs 1 healthy pods and has 2 currently" in evicted("b")
    status = api.json("get", "pdb", "x", *here)["status"]
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, ["a"])
    assert api.json("get", "pod", "a", *here)["metadata"]["deletionTimestamp"]
    assert "x      1               N/A               0" in api.out("get", "pdb", *here)
    api.out("create", "pdb", "y", "--selector=app=x", "--max-unavailable=1", *here)
    assert "more than one PodDisruptionBudget" in evicted("b")


@pytest.mark.feature("A23", "C2")
def test_edit_changes_what_the_editor_leaves(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("create", "configmap", "m", "--from-literal=colour=blue", *here)
    told = api.kubectl("edit", "configmap", "m", *here, KUBE_EDITOR="sed -i s/blue/green/").stdout
    assert told == "configmap/m edited\n"
    assert api.json("get", "configmap", "m", *here)["data"] == {"colour": "green"}
    told = api.kubectl("edit", "configmap", "m", *here, KUBE_EDITOR="true").stderr
    assert "no changes made" in told
    editor = {"KUBE_EDITOR": "sed -i s/colour/colo.ur!/", "TMPDIR": str(api.directory)}
    refused = api.kubectl("edit", "configmap", "m", *here, check=False, **editor)
    assert 'configmaps "m" is invalid' in refused.stderr


@pytest.mark.feature("C2")
@pytest.mark.parametrize(
    ("cascade", "owner", "owned"),
    [
        # What becomes of the owner, and of its name in what it owns; the rest is the garbage collector's.
        ("background", "gone", "named"),
        ("foreground", "waits", "named"),
        ("orphan", "gone", "struck"),
    ],
)
def test_delete_with_each_cascade(api: Api, namespace: str, cascade: str, owner: str, owned: str) -> None:
    here = ("-n", namespace)
    api.out("create", "configmap", "owner", *here)
    uid = api.json("get", "configmap", "owner", *here)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    patch = json.dumps({"metadata": {"ownerReferences": [{**reference, "blockOwnerDeletion": True}]}})
    api.out("create", "secret", "generic", "owned", *here)
    api.out("patch", "secret", "owned", *here, "-p", patch)
    api.out("delete", "configmap", "owner", f"--cascade={cascade}", "--wait=false", *here)
    left = api.out("get", "configmap", "owner", "--ignore-not-found", "-o", "name", *here)
    assert ("waits" if left else "gone") == owner
    held = api.json("get", "secret", "owned", *here)["metadata"].get("ownerReferences")
    assert ("named" if held else "struck") == owned
    if left:
        metadata = api.json("get", "configmap", "owner", *here)["metadata"]
        assert (metadata["finalizers"], bool(metadata["deletionTimestamp"])) == (["foregroundDeletion"], True)
        api.out("patch", "configmap", "owner", "-p", '{"metadata":{"finalizers":null}}', *here)
