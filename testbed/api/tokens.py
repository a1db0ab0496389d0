"""Service-account tokens: JSON Web Tokens, signed with the cluster's key, that expire.

RFC 7515 and 7519; the claims are those of k8s.io/kubernetes pkg/serviceaccount/claims.go.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from testbed.api.auth import User
from testbed.api.status import bad_request
from testbed.api.store import Store
from testbed.errors import UsageError
from testbed.model.resources import SERVICE_ACCOUNTS

Object = dict[str, Any]

ISSUER = "https://kubernetes.default.svc.cluster.local"
SHORTEST, LONGEST, DEFAULT = 600, 1 << 32, 3600
"""Seconds that a token lasts."""
_HALF = 32
"""Bytes of each of the two numbers in a P-256 signature."""
_MOST_REMEMBERED = 1024


@dataclass(frozen=True)
class Known:
    """A token whose signature is good."""

    claims: Object
    namespace: str
    name: str
    uid: str


class Tokens:
    """Issues and checks. `key` signs; its public half verifies. Without one there are no such tokens."""

    def __init__(self, store: Store, key: Path | None) -> None:
        self._store = store
        self._key = _load(key) if key else None
        self._known: dict[str, Known] = {}

    def issue(self, account: Object, request: Object) -> Object:
        """Fill in a TokenRequest's status. Raises StatusError."""
        if self._key is None:
            raise bad_request("this API server has no --service-account-signing-key-file")
        spec = request.setdefault("spec", {})
        seconds = spec.setdefault("expirationSeconds", DEFAULT)
        if not isinstance(seconds, int) or not SHORTEST <= seconds <= LONGEST:
            raise bad_request("spec.expirationSeconds: may not specify a duration less than 10 minutes")
        audiences = spec.get("audiences") or [ISSUER]
        spec["audiences"] = audiences
        metadata, now = account["metadata"], int(time.time())
        inside: Object = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        bound = spec.get("boundObjectRef") or {}
        if bound.get("kind") == "Pod":
            inside["pod"] = {"name": bound.get("name"), "uid": bound.get("uid")}
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "sub": _user_name(metadata["namespace"], metadata["name"]),
            "kubernetes.io": inside,
        }
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds))
        request["status"] = {"token": self._signed(claims), "expirationTimestamp": expires}
        return request

    def user(self, token: str) -> User | None:
        """Whose token it is; None if it is none of ours, expired, or its account or Pod is gone."""
        known = self._known.get(token) or self._verified(token)
        if known is None or known.claims["exp"] < time.time() or ISSUER not in known.claims["aud"]:
            return None
        account = self._store.get(SERVICE_ACCOUNTS.qualified, (known.namespace, known.name))
        if account is None or account.decode()["metadata"]["uid"] != known.uid:
            return None
        groups = {"system:serviceaccounts", f"system:serviceaccounts:{known.namespace}"}
        name = _user_name(known.namespace, known.name)
        return User(name, frozenset(groups | {"system:authenticated"}))

    def _signed(self, claims: Object) -> str:
        assert self._key
        head = {"alg": "ES256", "typ": "JWT"}
        text = b".".join(_encode(orjson.dumps(part)) for part in (head, claims))
        r, s = utils.decode_dss_signature(self._key.sign(text, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
        return b".".join((text, _encode(signature))).decode()

    def _verified(self, token: str) -> Known | None:
        text, _, signature = token.rpartition(".")
        if self._key is None or text.count(".") != 1:
            return None
        try:
            head, claims = (orjson.loads(_decode(part)) for part in text.split("."))
            numbers = _decode(signature)
            if head.get("alg") != "ES256" or len(numbers) != 2 * _HALF:
                return None
            r, s = (int.from_bytes(half, "big") for half in (numbers[:_HALF], numbers[_HALF:]))
            der = utils.encode_dss_signature(r, s)
            self._key.public_key().verify(der, text.encode(), ec.ECDSA(hashes.SHA256()))
            inside = claims["kubernetes.io"]
            account = inside["serviceaccount"]
            known = Known(claims, inside["namespace"], account["name"], account["uid"])
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
            return None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[token] = known
        return known


def _user_name(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _load(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--service-account-signing-key-file {path}: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise UsageError(f"--service-account-signing-key-file {path}: give an ECDSA P-256 key")
    return key


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(error) from None
