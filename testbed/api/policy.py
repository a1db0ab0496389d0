"""Roles and bindings: columns, defaults and validation (k8s.io/kubernetes pkg/apis/rbac/validation)."""

from __future__ import annotations

from typing import Any

from testbed.api.cells import Column, at
from testbed.api.columns import AGE, NAME
from testbed.api.rules import Errors
from testbed.api.status import invalid_value, not_supported, required

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
SUBJECTS = {"ServiceAccount": "", "User": GROUP, "Group": GROUP}


def _role(binding: Object) -> str:
    return f"{binding['roleRef']['kind']}/{binding['roleRef']['name']}"


ROLE_COLUMNS = (NAME, Column("Created At", at("metadata.creationTimestamp")))
BINDING_COLUMNS = (NAME, Column("Role", _role), AGE)


def role_errors(obj: Object, old: Object | None) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(obj.get("rules") or ()):
        place = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{place}.verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if obj["kind"] == "Role":
                told = "namespaced rules cannot apply to non-resource URLs"
                errors.append(invalid_value(f"{place}.nonResourceURLs", rule["nonResourceURLs"], told))
            continue
        for field, name in (("apiGroups", "api group"), ("resources", "resource")):
            if not rule.get(field):
                told = f"resource rules must supply at least one {name}"
                errors.append(required(f"{place}.{field}", told))
    return errors


def binding_defaults(obj: Object) -> None:
    for subject in obj.get("subjects") or ():
        subject.setdefault("apiGroup", SUBJECTS.get(subject.get("kind"), ""))
        if not subject["apiGroup"]:
            del subject["apiGroup"]


def binding_errors(obj: Object, old: Object | None) -> Errors:
    reference = obj.get("roleRef") or {}
    known = ["ClusterRole"] if obj["kind"] == "ClusterRoleBinding" else ["ClusterRole", "Role"]
    errors: Errors = []
    if reference.get("kind") not in known:
        errors.append(not_supported("roleRef.kind", reference.get("kind"), known))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    if old and old["roleRef"] != reference:
        errors.append(invalid_value("roleRef", reference, "cannot change roleRef"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        place = f"subjects[{index}]"
        if not subject.get("name"):
            errors.append(required(f"{place}.name"))
        if subject.get("kind") not in SUBJECTS:
            errors.append(not_supported(f"{place}.kind", subject.get("kind"), list(SUBJECTS)))
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            errors.append(required(f"{place}.namespace"))
    return errors
