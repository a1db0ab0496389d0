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
from testbed.api.status import bad_request, conflict, invalid, invalid_value, not_found
from testbed.api.store import Key, Store
from testbed.errors import UsageError
from testbed.model.conditions import seconds_since
from testbed.model.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource

Object = dict[str, Any]

ISSUER = "https://kubernetes.default.svc.cluster.local"
SHORTEST, LONGEST, DEFAULT = 600, 1 << 32, 3600
"""Seconds that a token lasts."""
LEEWAY = 60.0
"""Seconds for which a token outlives the deletion of what it is bound to."""
TOKEN_REQUESTS = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
BOUND = {resource.kind: resource for resource in (PODS, SECRETS, NODES)}
_EXTRA = "authentication.kubernetes.io/"
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
        if not SHORTEST <= seconds <= LONGEST:
            limit = "less than 10 minutes" if seconds < SHORTEST else "larger than 2^32 seconds"
            error = invalid_value("spec.expirationSeconds", seconds, f"may not specify a duration {limit}")
            raise invalid(TOKEN_REQUESTS, account["metadata"]["name"], [error])
        spec["audiences"] = spec.get("audiences") or [ISSUER]
        metadata, now = account["metadata"], int(time.time())
        inside: Object = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
            **self._bound(metadata, spec.get("boundObjectRef")),
        }
        claims = {
            "aud": spec["audiences"],
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

    def _bound(self, account: Object, reference: Object | None) -> Object:
        """The claims of the object that a token is to end with: a Pod, a Secret or a Node."""
        if not reference:
            return {}
        resource = BOUND.get(reference.get("kind", ""))
        if resource is None or reference.get("apiVersion", "v1") != "v1":
            told = f"{reference.get('apiVersion', '')}, Kind={reference.get('kind', '')}"
            raise bad_request(f"cannot bind token to object of type {told}")
        name, asked = str(reference.get("name") or ""), reference.get("uid")
        record = self._store.get(
            resource.qualified, (account["namespace"] if resource.namespaced else "", name)
        )
        if record is None:
            raise not_found(resource, name)
        obj = record.decode()
        actual = obj["metadata"]["uid"]
        if asked and asked != actual:
            told = f"the UID in the bound object reference ({asked}) does not match the UID in record"
            raise conflict(resource, name, f"{told}. The object might have been deleted and then recreated")
        claims = {resource.singular: {"name": name, "uid": actual}}
        if resource is PODS:
            if obj["spec"].get("serviceAccountName") != account["name"]:
                told = (
                    f'cannot bind token for serviceaccount "{account["name"]}" to pod running with different'
                )
                raise bad_request(f"{told} serviceaccount name.")
            node = self._store.get(NODES.qualified, ("", obj["spec"].get("nodeName") or ""))
            if node is not None:
                claims["node"] = {"name": node.key[1], "uid": node.decode()["metadata"]["uid"]}
        return claims

    def user(self, token: str) -> User | None:
        """Whose token it is; None if it is none of ours, expired, or its account or bound object is gone."""
        found = self.reviewed(token, frozenset({ISSUER}))
        return found[0] if found else None

    def reviewed(self, token: str, audiences: frozenset[str]) -> tuple[User, frozenset[str]] | None:
        """Whose it is, and which of these audiences it is for."""
        known = self._known.get(token) or self._verified(token)
        if known is None or not known.claims["nbf"] <= time.time() < known.claims["exp"]:
            return None
        meant = audiences & set(known.claims["aud"])
        inside = known.claims["kubernetes.io"]
        account = (SERVICE_ACCOUNTS, (known.namespace, known.name), known.uid)
        bound = [
            (resource, (known.namespace if resource.namespaced else "", claim["name"]), claim["uid"])
            for resource in BOUND.values()
            if (claim := inside.get(resource.singular)) and not (resource is NODES and "pod" in inside)
        ]
        if not meant or not all(self._lives(*each) for each in (account, *bound)):
            return None
        groups = {
            "system:serviceaccounts",
            f"system:serviceaccounts:{known.namespace}",
            "system:authenticated",
        }
        extra = [(f"{_EXTRA}credential-id", f"JTI={known.claims['jti']}")]
        for what in ("pod", "node"):
            extra += [
                (f"{_EXTRA}{what}-{field}", inside[what][field])
                for field in ("name", "uid")
                if what in inside
            ]
        name = _user_name(known.namespace, known.name)
        return User(name, frozenset(groups), known.uid, tuple(extra)), meant

    def _lives(self, resource: Resource, key: Key, uid: str) -> bool:
        """Whether the object is there still, or is only just going."""
        record = self._store.get(resource.qualified, key)
        if record is None or uid.encode() not in record.data:
            return False
        metadata = record.decode()["metadata"]
        going = metadata.get("deletionTimestamp")
        return bool(metadata["uid"] == uid and not (going and seconds_since(going) > LEEWAY))

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
