"""Nobody gives rights that he does not have, by a role or by a binding.

k8s.io/kubernetes `pkg/registry/rbac/*/policybased`; the verbs `escalate` and `bind` on roles are leave to
do so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from testbed.api.auth import User
from testbed.api.rbac import MASTERS, Attributes, Rbac, permits
from testbed.api.status import forbidden
from testbed.api.store import Store
from testbed.model.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource

Object = dict[str, Any]

_ROLES, _BINDINGS = (ROLES, CLUSTER_ROLES), (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)


def check(
    store: Store, rbac: Rbac, user: User, resource: Resource, obj: Object, old: Object | None = None
) -> None:
    """Raises StatusError 403 if writing this object gives rights that its writer has not."""
    if resource not in (*_ROLES, *_BINDINGS) or MASTERS in user.groups:
        return
    if old and all(
        obj.get(part) == old.get(part) for part in ("rules", "aggregationRule", "roleRef", "subjects")
    ):
        return
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace") or "", str(metadata.get("name") or "")
    rules, leave = _rules(obj), Attributes("escalate", resource.group, resource.plural, "", namespace, name)
    if resource in _BINDINGS:
        reference = obj.get("roleRef") or {}
        cluster_wide = reference.get("kind") == CLUSTER_ROLES.kind
        source = CLUSTER_ROLES if cluster_wide else ROLES
        role_name = str(reference.get("name") or "")
        record = store.latest(source.qualified, ("" if cluster_wide else namespace, role_name))
        rules = _rules(record.decode()) if record else []
        leave = Attributes("bind", source.group, source.plural, "", namespace, role_name)
    elif "aggregationRule" in obj:
        rules = [_EVERYTHING, *rules]
    if rbac.allows(user, leave):
        return
    own = list(rbac.rules(user, namespace))
    missing = [rule for rule in rules if not all(any(permits(o, each) for o in own) for each in _asked(rule))]
    if missing:
        listed = "\n".join(_shown(rule) for rule in missing)
        groups = ", ".join(f'"{each}"' for each in sorted(user.groups))
        told = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions'
        raise forbidden(resource, name, f"{told} not currently held:\n{listed}")


_EVERYTHING: Object = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


def _rules(role: Object) -> list[Object]:
    return role.get("rules") or []


def _asked(rule: Object) -> Iterator[Attributes]:
    """The single rights that a rule is made of; `*` stays as it is, and only `*` covers it."""
    for verb in rule.get("verbs") or ():
        for path in rule.get("nonResourceURLs") or ():
            yield Attributes(verb, path=path)
        names = rule.get("resourceNames") or [""]
        for group, kind, name in product(rule.get("apiGroups") or (), rule.get("resources") or (), names):
            plural, _, subresource = kind.partition("/")
            yield Attributes(verb, group, plural, subresource, "", name)


def _shown(rule: Object) -> str:
    fields = ("nonResourceURLs", "apiGroups", "resources", "resourceNames", "verbs")
    parts = []
    for field in fields:
        if rule.get(field):
            values = ", ".join(f'"{each}"' for each in rule[field])
            parts.append(f"{field[0].upper()}{field[1:]}:[{values}]".replace("ApiGroups", "APIGroups"))
    return "{" + ", ".join(parts) + "}"
