"""Kinds that are questions: created, answered in their status, never stored. `kubectl auth` asks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.api.auth import User
from testbed.api.rbac import Attributes, Rbac
from testbed.api.status import bad_request
from testbed.api.tokens import ISSUER, Tokens

Object = dict[str, Any]
Review = Callable[[User, str, Object], Object]
"""(who asks, in which namespace, the spec) -> the status."""


class Reviews:
    """The answers, by kind."""

    def __init__(self, rbac: Rbac, tokens: Tokens) -> None:
        self._rbac, self._tokens = rbac, tokens
        self._by_kind: dict[str, Review] = {
            "SelfSubjectAccessReview": lambda user, _, spec: self._access(user, spec),
            "SubjectAccessReview": lambda _, __, spec: self._access(_subject(spec), spec),
            "LocalSubjectAccessReview": lambda _, namespace, spec: self._local(namespace, spec),
            "SelfSubjectRulesReview": lambda user, _, spec: self._rules(user, spec),
            "SelfSubjectReview": lambda user, _, __: {"userInfo": user.info},
            "TokenReview": lambda _, __, spec: self._token(spec),
        }

    def answer(self, user: User, kind: str, namespace: str, review: Object) -> Object:
        """The review with its status. Raises StatusError."""
        spec = review.get("spec") or {}
        try:
            review["status"] = self._by_kind[kind](user, namespace, spec)
        except (TypeError, AttributeError) as error:
            raise bad_request(f"a {kind} of the wrong shape: {error}") from None
        review.setdefault("metadata", {}).setdefault("creationTimestamp", None)
        return review

    def _access(self, user: User, spec: Object) -> Object:
        asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if bool(asked) == bool(path):
            raise bad_request("give exactly one of spec.resourceAttributes and spec.nonResourceAttributes")
        names = (
            ("verb", "path") if path else ("verb", "group", "resource", "subresource", "namespace", "name")
        )
        given = path or asked or {}
        attributes = Attributes(**{name: str(given.get(name) or "") for name in names})
        return {"allowed": self._rbac.allows(user, attributes)}

    def _local(self, namespace: str, spec: Object) -> Object:
        given = (spec.get("resourceAttributes") or {}).get("namespace")
        if given != namespace:
            raise bad_request(f"spec.resourceAttributes.namespace must match the namespace {namespace}")
        return self._access(_subject(spec), spec)

    def _rules(self, user: User, spec: Object) -> Object:
        rules = list(self._rbac.rules(user, str(spec.get("namespace") or "default")))
        return {
            "resourceRules": [each for each in rules if each.get("resources")],
            "nonResourceRules": [each for each in rules if each.get("nonResourceURLs")],
            "incomplete": False,
        }

    def _token(self, spec: Object) -> Object:
        asked = frozenset(map(str, spec.get("audiences") or (ISSUER,)))
        found = self._tokens.reviewed(str(spec.get("token") or ""), asked)
        if found is None:
            return {"authenticated": False, "user": {}, "error": "invalid bearer token"}
        user, audiences = found
        return {"authenticated": True, "user": user.info, "audiences": sorted(audiences)}


def _subject(spec: Object) -> User:
    return User(str(spec.get("user") or ""), frozenset(map(str, spec.get("groups") or ())))
