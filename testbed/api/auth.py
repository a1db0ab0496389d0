"""Who is calling, and what they may do.

Identity comes from a client certificate (common name: user, organisations: groups) or a bearer token. What
a component may do is a row in a table; `system:masters` may do everything.
"""

from __future__ import annotations

import csv
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from testbed.api.status import StatusError, forbidden
from testbed.errors import UsageError
from testbed.model.resources import Resource


@dataclass(frozen=True)
class User:
    name: str
    groups: frozenset[str] = frozenset()

    def is_called(self, subject: str) -> bool:
        """Whether `user:NAME` or `group:NAME` is this user."""
        kind, _, name = subject.partition(":")
        return name == self.name if kind == "user" else name in self.groups


ANONYMOUS = User("system:anonymous", frozenset({"system:unauthenticated"}))

READ = frozenset({"get", "list", "watch"})
WRITE = frozenset({"create", "update", "patch", "delete", "deletecollection"})
ALL = READ | WRITE
EVERYTHING = frozenset({"*"})
EVENTS = frozenset({"events", "events.events.k8s.io"})
_SERVICES = frozenset({"services", "endpoints", "endpointslices.discovery.k8s.io"})


@dataclass(frozen=True)
class Rule:
    """Who (`user:NAME` or `group:NAME`) may do what to which kinds ("pods/status" for a subresource)."""

    subject: str
    verbs: frozenset[str]
    resources: frozenset[str]


RULES: tuple[Rule, ...] = (
    Rule("group:system:masters", ALL, EVERYTHING),
    Rule("user:system:kube-controller-manager", ALL, EVERYTHING),
    Rule("user:system:kube-scheduler", ALL, EVERYTHING),
    Rule("user:system:kube-proxy", READ, _SERVICES | {"nodes", "pods", "namespaces"}),
    Rule("user:system:kube-proxy", WRITE, EVENTS),
    Rule("user:system:kube-dns", READ, _SERVICES | {"namespaces"}),
    Rule("group:system:nodes", READ, _SERVICES | {"nodes", "pods", "namespaces", "serviceaccounts"}),
    Rule("group:system:nodes", READ, frozenset({"configmaps", "secrets"})),
    Rule("group:system:nodes", ALL, EVENTS | {"nodes", "nodes/status", "leases.coordination.k8s.io"}),
    Rule("group:system:nodes", WRITE, frozenset({"pods", "pods/status"})),
)

OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
"""Paths that an anonymous caller may read; all others outside kinds take any identity."""


@dataclass
class Authenticator:
    """`tokens`: bearer tokens and whose they are."""

    tokens: Mapping[str, User] = field(default_factory=dict)
    _seen: WeakKeyDictionary[Any, User] = field(default_factory=WeakKeyDictionary)

    def identify(self, transport: Any, authorization: str) -> User:
        """Who sent a request. Raises StatusError 401 for a token that nobody has."""
        if authorization:
            scheme, _, token = authorization.partition(" ")
            user = self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
            if user is None:
                raise StatusError(401, "Unauthorized", "Unauthorized")
            return user
        channel = transport.get_extra_info("ssl_object") if transport else None
        return self._certified(channel) if channel else ANONYMOUS

    def _certified(self, channel: ssl.SSLObject) -> User:
        """The owner of the connection's client certificate, which TLS has verified."""
        user = self._seen.get(channel)
        if user is None:
            user = self._seen[channel] = _subject(channel.getpeercert() or {})
        return user


def _subject(certificate: Mapping[str, Any]) -> User:
    names: dict[str, list[str]] = {}
    for (name, value), *_ in certificate.get("subject") or ():
        names.setdefault(name, []).append(value)
    if not names.get("commonName"):
        return ANONYMOUS
    groups = {*names.get("organizationName", ()), "system:authenticated"}
    return User(names["commonName"][-1], frozenset(groups))


def read_tokens(path: Path) -> dict[str, User]:
    """A token file in Kubernetes' form: lines of `token,user,uid,"group1,group2"`. Raises UsageError."""
    tokens = {}
    try:
        with path.open(newline="") as file:
            for row in csv.reader(file):
                if len(row) < 3:
                    raise UsageError(f"--token-auth-file {path}: a line needs token,user,uid")
                groups = row[3].split(",") if len(row) > 3 else []
                tokens[row[0]] = User(row[1], frozenset({*groups, "system:authenticated"}) - {""})
    except OSError as error:
        raise UsageError(f"--token-auth-file {path}: {error.strerror}") from None
    return tokens


def authorize(
    user: User, verb: str, resource: Resource, namespace: str, name: str, subresource: str = ""
) -> None:
    """Raises StatusError 403 unless a rule allows it."""
    target = f"{resource.qualified}/{subresource}" if subresource else resource.qualified
    for rule in RULES:
        covered = rule.resources is EVERYTHING or target in rule.resources
        if covered and verb in rule.verbs and user.is_called(rule.subject):
            return
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    told = f'User "{user.name}" cannot {verb} resource "{plural}" in API group "{resource.group}" {where}'
    raise forbidden(resource, name, told)


def authorize_path(user: User, path: str) -> None:
    """Paths that are not of a kind: health and version for all, the rest for any identity."""
    is_open = any(path == each or path.startswith(f"{each}/") for each in OPEN_PATHS)
    if user is ANONYMOUS and not is_open:
        told = f'forbidden: User "{user.name}" cannot get path "{path}"'
        raise StatusError(403, "Forbidden", told, {})
