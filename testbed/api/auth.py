"""Who is calling: by a client certificate (common name: user, organisations: groups) or a bearer token."""

from __future__ import annotations

import csv
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from testbed.api.status import StatusError
from testbed.errors import UsageError


@dataclass(frozen=True)
class User:
    name: str
    groups: frozenset[str] = frozenset()
    uid: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    """What else is known of a token: the Pod that it is bound to, its own id."""

    @property
    def info(self) -> dict[str, Any]:
        """As a UserInfo of authentication.k8s.io."""
        known = {"uid": self.uid, "extra": {key: [value] for key, value in self.extra}}
        told = {name: value for name, value in known.items() if value}
        return {"username": self.name, "groups": sorted(self.groups), **told}


ANONYMOUS = User("system:anonymous", frozenset({"system:unauthenticated"}))


@dataclass
class Authenticator:
    """`tokens`: bearer tokens and whose they are; `issued` knows those of service accounts."""

    tokens: Mapping[str, User] = field(default_factory=dict)
    issued: Callable[[str], User | None] = lambda token: None
    _seen: WeakKeyDictionary[Any, User] = field(default_factory=WeakKeyDictionary)

    def identify(self, transport: Any, authorization: str) -> User:
        """Who sent a request. Raises StatusError 401 for a token that nobody has."""
        if authorization:
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            user = self.tokens.get(token) or self.issued(token) if scheme.lower() == "bearer" else None
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
