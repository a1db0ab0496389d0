"""The cluster roles that every cluster begins with, and who has them.

After plugin/pkg/auth/authorizer/rbac/bootstrappolicy of k8s.io/kubernetes: the same names, and what the
components of this cluster need. They are ordinary objects: `kubectl get clusterroles` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
AGGREGATED = ("admin", "edit", "view")
"""Roles that grow by every ClusterRole that is labelled so."""
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_OPEN = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY = (*_OPEN, "/", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*")
_WORKLOADS = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale")
_CORE = (
    "configmaps",
    "endpoints",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "serviceaccounts",
    "services",
)


def _rule(verbs: tuple[str, ...], group: str, *kinds: str) -> Object:
    return {"apiGroups": [group], "resources": list(kinds), "verbs": list(verbs)}


def _paths(*paths: str) -> Object:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


_ALL = [_rule(("*",), "*", "*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
_SEEN = [
    _rule(READ, "", *_CORE, "bindings", "events", "limitranges", "namespaces", "pods/log", "pods/status"),
    _rule(READ, "apps", *_WORKLOADS, "statefulsets", "statefulsets/scale"),
    _rule(READ, "batch", "cronjobs", "jobs"),
    _rule(READ, "discovery.k8s.io", "endpointslices"),
    _rule(READ, "networking.k8s.io", "ingresses", "networkpolicies"),
]
_EDITED = [
    _rule(
        (*READ, *WRITE),
        "",
        *_CORE,
        "secrets",
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/eviction",
        "events",
    ),
    _rule(("create",), "", "serviceaccounts/token"),
    _rule((*READ, *WRITE), "apps", *_WORKLOADS, "statefulsets", "statefulsets/scale"),
    _rule((*READ, *WRITE), "batch", "cronjobs", "jobs"),
    _rule((*READ, *WRITE), "networking.k8s.io", "ingresses", "networkpolicies"),
    *_SEEN,
]
_ADMINISTERED = [_rule((*READ, *WRITE), "rbac.authorization.k8s.io", "roles", "rolebindings")]
_EVENTS = [_rule(("create", "patch", "update"), group, "events") for group in ("", "events.k8s.io")]
_SERVICES = [
    _rule(READ, "", "services", "endpoints", "nodes", "pods", "namespaces"),
    _rule(READ, "discovery.k8s.io", "endpointslices"),
]
_REVIEWS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")

ROLES: dict[str, tuple[list[Object], tuple[str, ...]]] = {
    # Name: its rules, and its subjects as "User:NAME" or "Group:NAME".
    "cluster-admin": (_ALL, ("Group:system:masters",)),
    "admin": ([*_ADMINISTERED, *_EDITED], ()),
    "edit": (_EDITED, ()),
    "view": (_SEEN, ()),
    "system:aggregate-to-admin": ([*_ADMINISTERED, *_EDITED], ()),
    "system:aggregate-to-edit": (_EDITED, ()),
    "system:aggregate-to-view": (_SEEN, ()),
    "system:public-info-viewer": (
        [_paths(*_OPEN)],
        ("Group:system:authenticated", "Group:system:unauthenticated"),
    ),
    "system:discovery": ([_paths(*_DISCOVERY)], ("Group:system:authenticated",)),
    "system:monitoring": ([_paths("/metrics")], ("Group:system:monitoring",)),
    "system:basic-user": (
        [
            _rule(("create",), "authorization.k8s.io", *_REVIEWS),
            _rule(("create",), "authentication.k8s.io", "selfsubjectreviews"),
        ],
        ("Group:system:authenticated",),
    ),
    "system:kube-controller-manager": (_ALL, ("User:system:kube-controller-manager",)),
    "system:kube-scheduler": (_ALL, ("User:system:kube-scheduler",)),
    "system:node-proxier": (
        [*_SERVICES, _rule(READ, "networking.k8s.io", "servicecidrs"), *_EVENTS],
        ("User:system:kube-proxy",),
    ),
    "system:kube-dns": ([*_SERVICES, _rule(READ, "", "configmaps")], ("User:system:kube-dns",)),
    "system:ingress": (
        [
            *_SERVICES,
            *_EVENTS,
            _rule(READ, "", "secrets"),
            _rule(READ, "networking.k8s.io", "ingresses", "ingressclasses"),
            _rule(("update", "patch"), "networking.k8s.io", "ingresses/status"),
        ],
        ("User:system:ingress",),
    ),
    # A kubelet that has a bootstrap token and no certificate yet.
    "system:node-bootstrapper": (
        [_rule(("create", *READ), "certificates.k8s.io", "certificatesigningrequests")],
        ("Group:system:bootstrappers",),
    ),
    "system:node": (
        # What `testbed.api.nodes` narrows down to what is the node's own.
        [
            *_SERVICES,
            *_EVENTS,
            _rule(READ, "", "serviceaccounts"),
            _rule(("get",), "", "configmaps", "secrets"),
            _rule(("create",), "", "serviceaccounts/token", "pods"),
            _rule(("create", "update", "patch"), "", "nodes", "nodes/status"),
            _rule((*READ, *WRITE), "coordination.k8s.io", "leases"),
            _rule(("delete",), "", "pods"),
            _rule(("get", "update", "patch"), "", "pods/status"),
            _rule(("create", *READ), "certificates.k8s.io", "certificatesigningrequests"),
            _rule(("create",), "authentication.k8s.io", "tokenreviews"),
            _rule(("create",), "authorization.k8s.io", "subjectaccessreviews"),
        ],
        ("Group:system:nodes",),
    ),
}


def objects() -> Iterator[tuple[str, Object]]:
    """(kind, object) of each, to be created."""
    group = "rbac.authorization.k8s.io"
    for name, (rules, subjects) in ROLES.items():
        metadata = {"name": name, "labels": _LABELS}
        role: Object = {"metadata": metadata, "rules": rules}
        prefix, _, target = name.rpartition("-to-")
        if prefix:
            metadata["labels"] = _LABELS | {_AGGREGATE + target: "true"}
        elif name in AGGREGATED:
            role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + name: "true"}}]}
        yield "clusterroles", role
        if subjects:
            named = [each.split(":", 1) for each in subjects]
            yield (
                "clusterrolebindings",
                {
                    "metadata": metadata,
                    "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
                    "subjects": [{"apiGroup": group, "kind": kind, "name": who} for kind, who in named],
                },
            )
