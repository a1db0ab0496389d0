"""What a kubelet may do is narrower than its role: its own Node, its own Lease, the Pods bound to it.

After Kubernetes' node authorizer and NodeRestriction admission plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.api.auth import User
from testbed.api.calls import Target
from testbed.api.status import forbidden
from testbed.api.store import Store
from testbed.model.resources import CONFIG_MAPS, LEASES, NODES, PODS, SECRETS, SERVICE_ACCOUNTS

Object = dict[str, Any]

GROUP, PREFIX = "system:nodes", "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
ROOT_CA = "kube-root-ca.crt"
MIRROR = "kubernetes.io/config.mirror"
_READ = ("get", "list", "watch")


def restrict(store: Store, user: User, verb: str, target: Target, body: Callable[[], Object]) -> None:
    """Raises StatusError 403 for what is not the node's own. `body` gives the object sent."""
    if GROUP not in user.groups or "system:masters" in user.groups:
        return
    node = user.name.removeprefix(PREFIX)
    resource, name = target.kind.resource, target.name
    if verb == "create" and not name:
        name = str((body().get("metadata") or {}).get("name") or "")
    told = ""
    if resource is NODES and verb not in _READ and name != node:
        told = f'node "{node}" is not allowed to modify node "{name}"'
    elif resource is LEASES and (target.namespace, name) != (LEASE_NAMESPACE, node):
        told = "can only access node lease with the same name as the requesting node"
    elif resource is PODS and verb not in _READ:
        told = _pod(store, node, verb, target, body)
    elif resource is SERVICE_ACCOUNTS and target.subresource == "token":
        told = _token(store, node, target.namespace, body())
    elif resource in (SECRETS, CONFIG_MAPS, SERVICE_ACCOUNTS) and verb not in ("list", "watch"):
        told = _referenced(store, node, target)
    if told:
        raise forbidden(resource, name, told)


def _pod(store: Store, node: str, verb: str, target: Target, body: Callable[[], Object]) -> str:
    if verb == "create" and not target.subresource:
        pod = body()
        if MIRROR not in ((pod.get("metadata") or {}).get("annotations") or {}):
            return "can only create pods with a mirror annotation"
        if (pod.get("spec") or {}).get("nodeName") != node:
            return f'node "{node}" can only create pods with spec.nodeName set to itself'
        return ""
    record = store.latest(PODS.qualified, target.key)
    if record is not None and record.fields.get("spec.nodeName") != node:
        return f'node "{node}" can only {verb} pods with spec.nodeName set to itself'
    return ""


def _token(store: Store, node: str, namespace: str, request: Object) -> str:
    """Tokens for Pods of its own; that the Pod runs as that account is checked where they are made."""
    bound = (request.get("spec") or {}).get("boundObjectRef") or {}
    if bound.get("kind") != PODS.kind or not bound.get("name") or not bound.get("uid"):
        return "node requested token not bound to a pod"
    record = store.latest(PODS.qualified, (namespace, str(bound["name"])))
    if record is None or record.fields.get("spec.nodeName") != node:
        return "node requested token bound to a pod scheduled on a different node"
    return ""


def _referenced(store: Store, node: str, target: Target) -> str:
    """Only what a Pod of this node names; the name in the Pod's JSON is evidence enough. The authority to
    trust, which every Pod may look for, needs a Pod in that namespace and no more.
    """
    wanted = b"" if target.name == ROOT_CA else b'ame":"%b"' % target.name.encode()
    for record in store.items(PODS.qualified, target.namespace):
        if record.fields.get("spec.nodeName") == node and wanted in record.data:
            return ""
    return f"no relationship found between node '{node}' and this object"
