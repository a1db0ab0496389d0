"""What breaks a rule is refused in Kubernetes' own words."""

from __future__ import annotations

import json

import pytest
from own_server import DEPLOYMENT, Api, manifest, pod


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"clusterIP": "192.0.2.1", "ports": [{"port": 80}]},
            'spec.clusterIPs: Invalid value: []string{"192.0.2.1"}: failed to allocate IP 192.0.2.1: '
            "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
        ),
        (
            {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
            'spec.clusterIPs: Invalid value: []string{"10.96.0.1"}: failed to allocate IP 10.96.0.1: '
            "provided IP is already allocated",
        ),
        (
            {"clusterIP": "10.96.0", "ports": [{"port": 80}]},
            'spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, '
            "(e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. "
            "The range of valid ports is 30000-32767",
        ),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        ({}, "spec.ports: Required value"),
        (
            {"ports": [{"port": 0}]},
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"port": 80, "protocol": "ICMP"}]},
            'spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "Other", "ports": [{"port": 80}]},
            'spec.type: Unsupported value: "Other": supported values: "ClusterIP", "ExternalName", '
            '"LoadBalancer", "NodePort"',
        ),
    ],
)
@pytest.mark.feature("A11", "A13", "C5")
def test_services_that_break_a_rule_are_refused_in_kubernetes_words(
    api: Api, namespace: str, spec: dict, told: str
) -> None:
    text = manifest("Service", "wrong", spec=spec)
    refusal = api.refused("create", "-n", namespace, "-f", "-", stdin=text)
    assert 'The Service "wrong" is invalid' in refusal
    assert told in refusal


@pytest.mark.feature("C5")
def test_refusals(api: Api, namespace: str) -> None:
    here = ("-n", namespace)
    assert 'pods "none" not found' in api.refused("get", "pod", "none", *here)
    assert 'namespaces "none" not found' in api.refused("create", "-n", "none", "-f", "-", stdin=pod("p"))
    api.out("create", "-f", "-", *here, stdin=pod("p"))
    assert "AlreadyExists" in api.refused("create", "-f", "-", *here, stdin=pod("p"))
    assert 'namespaces "default" is forbidden' in api.refused("delete", "namespace", "default")
    assert 'Invalid value: "P_1"' in api.refused("create", "-f", "-", *here, stdin=pod("P_1"))
    assert "field label not supported" in api.refused("get", "pods", "--field-selector", "spec.x=y", *here)
    stale = api.json("get", "pod", "p", *here)
    api.out("label", "pod", "p", "a=b", *here)
    assert "the object has been modified" in api.refused("replace", "-f", "-", *here, stdin=json.dumps(stale))


@pytest.mark.feature("C5")
def test_unknown_fields_are_refused_warned_of_or_taken(api: Api, namespace: str) -> None:
    here = ("-n", namespace, "-f", "-")
    wrong = DEPLOYMENT.replace("replicas: 3", "replica: 3")
    assert 'strict decoding error: unknown field "spec.replica"' in api.refused("apply", *here, stdin=wrong)
    assert (
        'Warning: unknown field "spec.replica"'
        in api.kubectl("apply", "--validate=warn", *here, stdin=wrong).stderr
    )
    assert api.kubectl("apply", "--validate=ignore", *here, stdin=wrong).stderr == ""


def test_wrong_roles_are_refused(api: Api, namespace: str) -> None:
    rbac, here = "rbac.authorization.k8s.io/v1", ("-n", namespace, "-f", "-")
    rule = {"apiGroups": [""], "resources": ["pods"]}
    told = api.refused("create", *here, stdin=manifest("Role", "r", rbac, rules=[rule]))
    assert "rules[0].verbs: Required value" in told
    reference = {"kind": "Nobody", "name": "x", "apiGroup": "rbac.authorization.k8s.io"}
    told = api.refused("create", *here, stdin=manifest("RoleBinding", "r", rbac, roleRef=reference))
    assert "roleRef.kind: Unsupported value" in told
