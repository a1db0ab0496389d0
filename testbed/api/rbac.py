"""Role-based access control: may this user do that? By the roles and bindings in the store.

kubernetes.io/docs/reference/access-authn-authz/rbac. `system:masters` may do everything, bindings or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from testbed.api.auth import User
from testbed.api.status import StatusError, forbidden
from testbed.api.store import Event, Store
from testbed.model.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource

Object = dict[str, Any]

MASTERS = "system:masters"
MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class Attributes:
    """What is asked. A `path` is one outside kinds; then the rest but `verb` is empty."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True)
class _Grant:
    """A binding with its role's rules. `namespace` "": everywhere."""

    subjects: tuple[tuple[str, str], ...]
    namespace: str
    rules: tuple[Object, ...]

    def holds(self, user: User) -> bool:
        return any(
            name == user.name if kind == "User" else name in user.groups for kind, name in self.subjects
        )


class Rbac:
    """The authorizer over a store. Decisions are remembered until a role or binding changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grants: list[_Grant] | None = None
        self._decided: dict[tuple[str, frozenset[str], Attributes], bool] = {}
        for resource in (ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS):
            store.listen(resource.qualified, self)

    def offer(self, event: Event) -> None:
        """A role or a binding changed."""
        self._grants = None
        self._decided.clear()

    def allows(self, user: User, asked: Attributes) -> bool:
        if MASTERS in user.groups:
            return True
        key = (user.name, user.groups, asked)
        known = self._decided.get(key)
        if known is None:
            known = any(permits(rule, asked) for rule in self.rules(user, asked.namespace))
            if len(self._decided) >= MOST_REMEMBERED:
                self._decided.clear()
            self._decided[key] = known
        return known

    def rules(self, user: User, namespace: str) -> Iterator[Object]:
        """All rules that hold for a user in a namespace ("": those that hold everywhere)."""
        if self._grants is None:
            self._grants = list(self._read())
        for grant in self._grants:
            if grant.namespace in ("", namespace) and grant.holds(user):
                yield from grant.rules

    def _read(self) -> Iterator[_Grant]:
        for resource in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS):
            for record in self._store.items(resource.qualified):
                binding, namespace = record.decode(), record.key[0]
                reference = binding["roleRef"]
                cluster_wide = reference["kind"] == CLUSTER_ROLES.kind
                source = CLUSTER_ROLES if cluster_wide else ROLES
                key = ("" if cluster_wide else namespace, reference["name"])
                role = self._store.get(source.qualified, key)
                if role is not None:
                    subjects = tuple(_subject(each, namespace) for each in binding.get("subjects") or ())
                    yield _Grant(subjects, namespace, tuple(role.decode().get("rules") or ()))

    def impersonated(self, user: User, headers: MultiMapping[str]) -> User:
        """Whom a request is made as (`kubectl --as`). Raises StatusError 403."""
        name = headers.get("Impersonate-User", "")
        if not name:
            return user
        groups = headers.getall("Impersonate-Group", [])
        for kind, each in (("users", name), *(("groups", group) for group in groups)):
            resource = Resource("", "v1", kind, kind, namespaced=False)
            self.authorize(user, Attributes("impersonate", resource=kind, name=each), resource)
        parts = name.split(":")
        own = {"system:authenticated"}
        if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
            own |= {"system:serviceaccounts", f"system:serviceaccounts:{parts[2]}"}
        return User(name, frozenset(own | set(groups)))

    # -- refusals

    def authorize(self, user: User, asked: Attributes, resource: Resource) -> None:
        """Raises StatusError 403."""
        if not self.allows(user, asked):
            raise forbidden(resource, asked.name, told(user, asked))

    def authorize_path(self, user: User, verb: str, path: str) -> None:
        """Raises StatusError 403."""
        if not self.allows(user, Attributes(verb, path=path)):
            message = f'forbidden: User "{user.name}" cannot {verb} path "{path}"'
            raise StatusError(403, "Forbidden", message, {})


def told(user: User, asked: Attributes) -> str:
    plural = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    return f'User "{user.name}" cannot {asked.verb} resource "{plural}" in API group "{asked.group}" {where}'


def _subject(subject: Object, namespace: str) -> tuple[str, str]:
    if subject["kind"] == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return subject["kind"], subject["name"]


def permits(rule: Object, asked: Attributes) -> bool:
    """Whether one rule gives one right."""
    if not _among(asked.verb, rule.get("verbs")):
        return False
    if asked.path:
        return any(_path_matches(each, asked.path) for each in rule.get("nonResourceURLs") or ())
    kinds = rule.get("resources") or ()
    wanted = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    names = rule.get("resourceNames")
    return (
        (wanted in kinds or "*" in kinds or (bool(asked.subresource) and f"*/{asked.subresource}" in kinds))
        and _among(asked.group, rule.get("apiGroups"))
        and (not names or asked.name in names)
    )


def _among(value: str, known: Any) -> bool:
    return bool(known) and (value in known or "*" in known)


def _path_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
