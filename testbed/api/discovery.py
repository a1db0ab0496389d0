"""Discovery: which groups, versions and kinds there are, in the plain and the aggregated form (KEP-3352)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.api.registry import KINDS, Kind
from testbed.model.resources import Resource

Object = dict[str, Any]

AGGREGATED = "apidiscovery.k8s.io"
VERSION: Object = {
    # The version of the API that is spoken; clients choose their behaviour by it.
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+testbed",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "python",
    "platform": "linux/amd64",
}

SUBRESOURCES: dict[str, tuple[Resource | None, tuple[str, ...]]] = {
    # What a subresource speaks (None: its parent's kind), and its verbs.
    "status": (None, ("get", "patch", "update")),
    "scale": (Resource("autoscaling", "v1", "scales", "Scale"), ("get", "patch", "update")),
    "finalize": (None, ("update",)),
    "binding": (Resource("", "v1", "bindings", "Binding"), ("create",)),
    "log": (None, ("get",)),
    "approval": (None, ("get", "patch", "update")),
    "eviction": (Resource("policy", "v1", "evictions", "Eviction"), ("create",)),
    "token": (Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest"), ("create",)),
    "exec": (Resource("", "v1", "pods", "PodExecOptions"), ("create", "get")),
    "attach": (Resource("", "v1", "pods", "PodAttachOptions"), ("create", "get")),
    "portforward": (Resource("", "v1", "pods", "PodPortForwardOptions"), ("create", "get")),
}


STREAMS = ("attach", "exec", "log", "portforward")
"""The subresources that speak no objects."""


def group_versions() -> dict[str, list[str]]:
    """Every group and its versions, the core group ("") first."""
    found: dict[str, list[str]] = {}
    for kind in KINDS:
        versions = found.setdefault(kind.resource.group, [])
        if kind.resource.version not in versions:
            versions.append(kind.resource.version)
    return found


def members(group: str, version: str) -> list[Kind]:
    return [kind for kind in KINDS if (kind.resource.group, kind.resource.version) == (group, version)]


def spoken(resource: Resource, subresource: str) -> Resource:
    """The kind of the objects that come and go: the resource's, or that of its subresource."""
    return SUBRESOURCES.get(subresource, (None, ()))[0] or resource


def identity(resource: Resource) -> Object:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _names(resource: Resource) -> Object:
    """Other names of a kind, if it has any."""
    named = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {key: value for key, value in named.items() if value}


def core_versions(address: str) -> Object:
    """The answer of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group(name: str) -> Object | None:
    """The answer of /apis/GROUP."""
    versions = group_versions().get(name)
    if not name or versions is None:
        return None
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def groups() -> Object:
    """The answer of /apis."""
    names = [name for name in group_versions() if name]
    listed: list[Object] = []
    for name in names:
        found = group(name) or {}
        listed.append({key: value for key, value in found.items() if key not in ("kind", "apiVersion")})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def kinds(group_name: str, version: str) -> Object | None:
    """The answer of /api/v1 and /apis/GROUP/VERSION."""
    found = members(group_name, version)
    if not found:
        return None
    listed: list[Object] = []
    for kind in found:
        resource = kind.resource
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(kind.verbs),
        }
        listed.append(entry | _names(resource))
        listed += [_subresource(resource, name) for name in kind.parts]
    group_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _subresource(parent: Resource, name: str) -> Object:
    own, verbs = SUBRESOURCES[name]
    entry: Object = {
        "name": f"{parent.plural}/{name}",
        "singularName": "",
        "namespaced": parent.namespaced,
        "kind": (own or parent).kind,
        "verbs": list(verbs),
    }
    if own and own.group:
        entry |= {"group": own.group, "version": own.version}
    return entry


def aggregated(names: Sequence[str], version: str) -> Object:
    """/api or /apis in one answer with all kinds, as clients since 1.26 ask. `version`: v2 or v2beta1."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {
                    "version": each,
                    "resources": [_aggregated_kind(kind) for kind in members(name, each)],
                    "freshness": "Current",
                }
                for each in group_versions()[name]
            ],
        }
        for name in names
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{AGGREGATED}/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_kind(kind: Kind) -> Object:
    resource = kind.resource
    entry: Object = {
        "resource": resource.plural,
        "responseKind": identity(resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(kind.verbs),
    }
    subresources = [
        {
            "subresource": name,
            "responseKind": identity(spoken(resource, name)),
            "verbs": list(SUBRESOURCES[name][1]),
        }
        for name in kind.parts
    ]
    return entry | _names(resource) | ({"subresources": subresources} if subresources else {})
