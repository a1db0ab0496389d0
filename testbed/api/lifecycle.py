"""Deletion and binding: how an object's life ends, and when a Pod begins to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from testbed.api.registry import Kind
from testbed.api.status import bad_request, conflict, forbidden
from testbed.model.resources import NAMESPACES, NODES, PODS

Object = dict[str, Any]
Change = Callable[[Object], Object]

KEPT_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
FOREGROUND = "foregroundDeletion"
"""The finalizer that holds an owner until the garbage collector has seen its dependents go."""
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class DeleteOptions:
    """What a deletion asks for. `grace_period` in seconds; None: the object's own."""

    grace_period: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


def now(after: int = 0) -> str:
    """The time (in `after` seconds) as Kubernetes writes it: RFC 3339, whole seconds, UTC."""
    return _written(int(time.time()) + after)


@lru_cache(4)
def _written(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def is_over(kind: Kind, obj: Object) -> bool:
    """Whether a deletion has nothing left to wait for."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if kind.resource is NAMESPACES and obj["spec"].get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def begin(kind: Kind, obj: Object, options: DeleteOptions) -> None:
    """Mark an object as being deleted, with the grace it has. A second deletion can only shorten that."""
    metadata = obj["metadata"]
    if kind.resource is NAMESPACES:
        if metadata["name"] in KEPT_NAMESPACES:
            raise forbidden(kind.resource, metadata["name"], "this namespace may not be deleted")
        obj.setdefault("status", {})["phase"] = "Terminating"
    if options.propagation == "Foreground" and FOREGROUND not in metadata.get("finalizers", ()):
        metadata["finalizers"] = [*metadata.get("finalizers", ()), FOREGROUND]
    grace = _grace(obj, options) if kind.resource is PODS else 0
    held = metadata.get("deletionGracePeriodSeconds")
    if metadata.get("deletionTimestamp") and held is not None:
        grace = min(grace, int(held))
        if grace == int(held):
            return
    metadata["deletionTimestamp"] = now(grace)
    metadata["deletionGracePeriodSeconds"] = grace


def _grace(pod: Object, options: DeleteOptions) -> int:
    """A Pod that no kubelet has, or that has ended, needs no grace."""
    if not pod["spec"].get("nodeName") or (pod.get("status") or {}).get("phase") in _FINISHED:
        return 0
    asked = options.grace_period
    own = pod["spec"].get("terminationGracePeriodSeconds")
    return max(0, int(asked if asked is not None else 30 if own is None else own))


def bind(binding: Object) -> Change:
    """The change that puts a Pod on the node a Binding names."""

    def change(pod: Object) -> Object:
        name, target = pod["metadata"]["name"], binding.get("target") or {}
        if target.get("kind", NODES.kind) != NODES.kind or not target.get("name"):
            raise bad_request("a binding needs a target of kind Node with a name")
        if pod["metadata"].get("deletionTimestamp"):
            raise conflict(PODS, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if pod["spec"].get("nodeName"):
            told = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
            raise conflict(PODS, name, told)
        pod["spec"]["nodeName"] = target["name"]
        conditions = pod.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [each for each in conditions if each.get("type") != "PodScheduled"]
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": now(),
            }
        )
        return pod

    return change
