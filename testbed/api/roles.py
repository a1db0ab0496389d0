"""The cluster roles that every cluster begins with, and who has them: `roles.txt`, made objects.

After plugin/pkg/auth/authorizer/rbac/bootstrappolicy of k8s.io/kubernetes: the same names, and what the
components of this cluster need. They are ordinary objects: `kubectl get clusterroles` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
VERBS = {
    "READ": ("get", "list", "watch"),
    "WRITE": ("create", "delete", "deletecollection", "patch", "update"),
}
AGGREGATED = ("admin", "edit", "view")
"""Roles that grow by every ClusterRole that is labelled so."""
_AGGREGATE = f"{GROUP}/aggregate-to-"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}

Table = dict[str, tuple[list[str], list[str]]]
"""Name: who has it ("User:NAME", "Group:NAME"), and the lines of its rules."""


def _read() -> Table:
    table, rules = Table(), list[str]()
    for line in resources.files("testbed.api").joinpath("roles.txt").read_text().splitlines():
        if line.startswith(" "):
            rules.append(line)
        elif not line.startswith("#"):
            name, *subjects = line.split()
            rules = []
            table[name] = (subjects, rules)
    return table


def _rules(table: Table, name: str) -> Iterator[Object]:
    for line in table[name][1]:
        first, *rest = line.split()
        if first == "with":
            yield from _rules(table, rest[0])
            continue
        verbs = [verb for word in first.split(",") for verb in VERBS.get(word, (word,))]
        if rest[0].startswith("/") or len(rest) == 1:
            yield {"nonResourceURLs": rest, "verbs": verbs}
        else:
            yield {"apiGroups": [rest[0].strip('"')], "resources": rest[1:], "verbs": verbs}


def objects() -> Iterator[tuple[str, Object]]:
    """(kind, object) of each, to be created."""
    table = _read()
    for name, (subjects, _) in table.items():
        if name.startswith("("):
            continue
        metadata = {"name": name, "labels": _LABELS}
        role: Object = {"metadata": metadata, "rules": list(_rules(table, name))}
        prefix, _, target = name.rpartition("-to-")
        if prefix:
            metadata["labels"] = _LABELS | {_AGGREGATE + target: "true"}
        elif name in AGGREGATED:
            role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + name: "true"}}]}
        yield "clusterroles", role
        if subjects:
            named = [dict(zip(("kind", "name"), each.split(":", 1), strict=True)) for each in subjects]
            yield (
                "clusterrolebindings",
                {
                    "metadata": metadata,
                    "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
                    "subjects": [{"apiGroup": GROUP, **each} for each in named],
                },
            )
