"""Fits endpoints into EndpointSlices with as few changes as possible. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.controllers.triggers import LAST_CHANGE

Object = dict[str, Any]

MOST_ENDPOINTS = 100
"""Endpoints in a slice, as kube-controller-manager's --max-endpoints-per-slice."""


@dataclass(frozen=True)
class Group:
    """Endpoints of one address type that share their ports."""

    family: str
    ports: list[Object]
    endpoints: list[Object]

    @property
    def key(self) -> str:
        return group_key(self.family, self.ports)


@dataclass
class Changes:
    """Slices to write."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def group_key(family: str, ports: Sequence[Object] | None) -> str:
    return family + json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports or ()))


def fit(held: Sequence[Object], groups: Sequence[Group], metadata: Object) -> Changes:
    """What to write so that the `held` slices become the `groups`.

    An endpoint stays in the slice it is in; a new one goes where there is room, so that one changed
    endpoint touches one slice. `metadata` is that of a new slice; its labels are kept on old ones too, and
    the time of the change is that of the slices which it touches.
    """
    changes = Changes()
    by_key: dict[str, list[Object]] = {}
    for each in held:
        by_key.setdefault(group_key(each["addressType"], each.get("ports")), []).append(each)
    for group in groups:
        _fit_group(by_key.pop(group.key, []), group, metadata, changes)
    for left in by_key.values():
        changes.delete += left
    return changes


def _fit_group(held: list[Object], group: Group, metadata: Object, changes: Changes) -> None:
    wanted = {_identity(endpoint): endpoint for endpoint in group.endpoints}
    kept: list[tuple[Object, list[Object]]] = []
    for each in held:
        names = [_identity(endpoint) for endpoint in each.get("endpoints") or ()]
        kept.append((each, [wanted.pop(name) for name in names if name in wanted]))
    rest = list(wanted.values())
    for _, endpoints in kept:
        room = max(0, MOST_ENDPOINTS - len(endpoints))
        endpoints += rest[:room]
        rest = rest[room:]
    for each, endpoints in kept:
        labels = {**(each["metadata"].get("labels") or {}), **metadata["labels"]}
        same_labels = labels == each["metadata"].get("labels")
        if not endpoints and (group.endpoints or len(held) > 1):
            changes.delete.append(each)
        elif endpoints != (each.get("endpoints") or []) or not same_labels:
            touched = {**each["metadata"], "labels": labels, "annotations": _annotations(each, metadata)}
            changes.update.append({**each, "metadata": touched, "endpoints": endpoints})
    first = not held and not group.endpoints  # a Service without endpoints has one empty slice
    while rest or first:
        changes.create.append(_slice(metadata, group, rest[:MOST_ENDPOINTS]))
        rest, first = rest[MOST_ENDPOINTS:], False


def _annotations(held: Object, metadata: Object) -> Object:
    kept = dict(held["metadata"].get("annotations") or {})
    kept.pop(LAST_CHANGE, None)  # of an earlier change
    return kept | (metadata.get("annotations") or {})


def _identity(endpoint: Object) -> str:
    """What stays the same while an endpoint's conditions change."""
    return str((endpoint.get("targetRef") or {}).get("uid") or "") + ",".join(endpoint["addresses"])


def _slice(metadata: Object, group: Group, endpoints: list[Object]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": group.family,
        "ports": group.ports,
        "endpoints": endpoints,
    }
