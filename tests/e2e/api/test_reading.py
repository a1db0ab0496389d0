"""kubectl get, describe, watch, wait, rollout, events: what people read."""

from __future__ import annotations

import json

import pytest
from own_server import DEADLINE, DEPLOYMENT, Api, manifest, pod


@pytest.mark.feature("A23", "C4")
def test_tables_look_as_kubectl_users_know_them(api: Api, namespace: str) -> None:
    api.out("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
    api.out("create", "-n", namespace, "-f", "-", stdin=pod("p"))
    shown = {
        kind: api.out("get", kind, "-n", namespace, "-o", "wide").splitlines()
        for kind in ("deployments", "services", "pods")
    }
    assert shown["deployments"][0].split() == [
        "NAME",
        "READY",
        "UP-TO-DATE",
        "AVAILABLE",
        "AGE",
        "CONTAINERS",
        "IMAGES",
        "SELECTOR",
    ]
    assert shown["deployments"][1].split()[:4] == ["web", "0/3", "0", "0"]
    assert shown["services"][0].split() == [
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AGE",
        "SELECTOR",
    ]
    assert shown["services"][1].split()[1] == "NodePort"
    header = "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    assert " ".join(shown["pods"][0].split()) == header
    assert shown["pods"][1].split()[:4] == ["p", "0/1", "Pending", "0"]


def test_nodes_show_their_roles_and_addresses(api: Api) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node09", "labels": {"node-role.kubernetes.io/worker": ""}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.32.0", "osImage": "Debian"},
        },
    }
    api.out("create", "-f", "-", stdin=json.dumps(node))
    line = api.out("get", "nodes", "-o", "wide").splitlines()[1].split()
    assert line[:3] == ["node09", "Ready", "worker"]
    assert line[4:8] == ["v1.32.0", "192.0.2.9", "<none>", "Debian"]
    assert "InternalIP:  192.0.2.9" in api.out("describe", "node", "node09")
    api.out("delete", "node", "node09")


@pytest.mark.feature("C2")
def test_watch_tells_of_each_change_in_order(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    process = api.popen("get", "pods", "-w", "--no-headers", "--output-watch-events", "-l", "app=w", *here)
    assert process.stdout
    steps = (
        (("create", "-f", "-"), pod("one", labels={"app": "w"}), "ADDED"),
        (("annotate", "pod", "one", "a=b"), "", "MODIFIED"),
        (("label", "pod", "one", "app=x", "--overwrite"), "", "DELETED"),
        (("label", "pod", "one", "app=w", "--overwrite"), "", "ADDED"),
        (("delete", "pod", "one"), "", "DELETED"),
    )
    seen = []
    for words, text, _ in steps:
        api.out(*words, *here, stdin=text)
        seen.append(process.stdout.readline().split()[:2])
    process.terminate()
    process.communicate(timeout=10)
    assert seen == [[event, "one"] for _, _, event in steps]


@pytest.mark.feature("C2")
def test_lists_in_pieces_and_by_field(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    documents = "\n".join(pod(f"p{i}", node=f"node{i % 2}") for i in range(7))
    api.out("create", "-f", "-", *here, stdin=documents)
    assert len(api.out("get", "pods", "--chunk-size=3", "-o", "name", *here).split()) == 7
    found = api.out("get", "pods", "--field-selector", "spec.nodeName=node1", "-o", "name", *here).split()
    assert found == ["pod/p1", "pod/p3", "pod/p5"]


def test_describe_rollout_wait(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    api.out("apply", *here, "-f", "-", stdin=DEPLOYMENT)
    assert "NodePort:                 <unset>  3" in api.out("describe", "service", "web", *here)
    assert "3 desired" in api.out("describe", "deployment", "web", *here)
    status = {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    waiting = api.popen("rollout", "status", "deployment/web", "--timeout=50s", *here)
    api.out(
        "patch",
        "deployment",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": status}),
        *here,
    )
    out, err = waiting.communicate(timeout=DEADLINE)
    assert "successfully rolled out" in out, err
    assert "condition met" in api.out(
        "wait", "--for=condition=Available", "deployment/web", "--timeout=5s", *here
    )
    assert api.json("get", "deployment", "web", *here)["metadata"]["generation"] == 1


def test_events_are_the_same_in_both_groups(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    regarding = {"kind": "Pod", "namespace": namespace, "name": "p"}
    told: dict[str, object] = {
        "regarding": regarding,
        "note": "went well",
        "reason": "Tried",
        "type": "Normal",
    }
    told |= {"reportingController": "me", "reportingInstance": "1", "action": "Try"}
    told["eventTime"] = "2030-01-01T00:00:00.000000Z"
    api.out("create", *here, "-f", "-", stdin=manifest("Event", "e", "events.k8s.io/v1", **told))
    event = api.json("get", "events", "e", *here)
    assert (event["apiVersion"], event["message"], event["involvedObject"]) == ("v1", "went well", regarding)
    event = api.json("get", "events.events.k8s.io", "e", *here)
    assert (event["apiVersion"], event["note"]) == ("events.k8s.io/v1", "went well")
    selected = ("get", "events.events.k8s.io", "-o", "json", "--field-selector")
    for name, count in (("p", 1), ("q", 0)):
        assert len(json.loads(api.out(*selected, f"regarding.name={name}", *here))["items"]) == count
    assert "went well" in api.out("events", *here)
    api.out("delete", "events.events.k8s.io", "e", *here)
    assert api.out("get", "events", "-o", "name", *here) == ""


@pytest.mark.feature("A23", "C4")
@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("name", "service/web\n"),
        ("jsonpath={.spec.ports[0].port}", "80"),
        ("jsonpath-as-json={.spec.ports[*].targetPort}", '[\n    "http"\n]\n'),
        ("go-template={{.metadata.name}}", "web"),
        ("custom-columns=WHO:.metadata.name,PORT:.spec.ports[0].port", "WHO   PORT\nweb   80\n"),
        ("yaml", "kind: Service\n"),
        ("json", '"kind": "Service",\n'),
        ("wide", "app=web\n"),
    ],
)
def test_every_form_of_output(api: Api, namespace: str, form: str, told: str) -> None:
    api.out("apply", "-n", namespace, "-f", "-", stdin=DEPLOYMENT)
    assert told in api.out("get", "service", "web", "-n", namespace, "-o", form)
