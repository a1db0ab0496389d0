"""A request, understood: which kind, which object, which verb, and what its body says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson

from testbed.api import protobuf, selectors, twins
from testbed.api.auth import ANONYMOUS, User
from testbed.api.discovery import spoken
from testbed.api.lifecycle import DeleteOptions
from testbed.api.registry import BY_PATH, Kind
from testbed.api.schema import TYPES, Type, WrongType, conform, of_kind
from testbed.api.selectors import Requirement
from testbed.api.status import bad_request, invalid, method_not_allowed, not_supported, unsupported_media_type
from testbed.api.store import Key, Record
from testbed.api.table import Form
from testbed.model.resources import Resource

Object = dict[str, Any]

_NAMESPACE_SUBRESOURCES = ("status", "finalize")
_BODY_TYPES = ("application/json", "application/yaml")
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
PROPAGATIONS = ("Background", "Foreground", "Orphan")
_OPTIONS = Resource("meta.k8s.io", "v1", "deleteoptions", "DeleteOptions")
_TRUE = ("1", "true", "True", "TRUE", "t", "T")


@dataclass(frozen=True)
class Target:
    """What a URL path names. `namespace` "" is all of them; `name` "" is the collection."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(frozen=True)
class Call:
    """One request to a kind."""

    target: Target
    verb: str
    query: Mapping[str, str]
    form: Form
    body: bytes = b""
    content_type: str = ""
    manager: str = ""
    """Who changes fields: `fieldManager`, or the client's program."""
    user: User = ANONYMOUS
    warnings: list[str] = field(default_factory=list)
    """What the caller should be told though the request is done."""

    @property
    def dry_run(self) -> bool:
        asked = self.query.get("dryRun", "")
        if asked not in ("", "All"):
            raise bad_request(f'dryRun: Unsupported value: "{asked}": supported values: "All"')
        return asked == "All"

    @property
    def spoken(self) -> Resource:
        """The kind of the objects that come and go."""
        return spoken(self.target.kind.resource, self.target.subresource)

    @property
    def type(self) -> Type:
        """The fields that they have."""
        return of_kind(self.spoken.group, self.spoken.kind)

    def document(self) -> Object:
        """The object in the body. Raises StatusError 400, 415."""
        value = decode(self.body, self.content_type)
        if not isinstance(value, dict):
            kind = self.target.kind.resource.kind
            raise bad_request(f"the object provided is unrecognized (must be of type {kind}): not an object")
        return value


@dataclass(frozen=True)
class Selection:
    """Which objects of a kind a list or a watch is about."""

    namespace: str = ""
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, record: Record) -> bool:
        return (
            (not self.namespace or record.key[0] == self.namespace)
            and (not self.labels or selectors.matches(self.labels, record.labels.get))
            and (not self.fields or selectors.matches(self.fields, record.field))
        )


def parse_path(path: str) -> Target | None:
    """The target of `/api/v1/…` or `/apis/GROUP/VERSION/…`; None where no kind is named."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or bool(namespace) > kind.resource.namespaced:
        return None
    if kind.resource.namespaced and not namespace and len(rest) > 1:
        return None
    name = rest[1] if len(rest) > 1 else ""
    return Target(kind, namespace, name, rest[2] if len(rest) > 2 else "")


def verb_of(method: str, target: Target, query: Mapping[str, str]) -> str:
    """Kubernetes' verb for an HTTP method: what rules of access speak of. Raises StatusError 405."""
    if method not in _VERBS:
        raise method_not_allowed()
    if method == "GET" and not target.name:
        return "watch" if query.get("watch") in _TRUE else "list"
    if method == "DELETE" and not target.name:
        return "deletecollection"
    return _VERBS[method]


def decode(body: bytes, content_type: str) -> Any:
    """A body in JSON, YAML or protobuf. Raises StatusError 400 if malformed, 415 for other types."""
    if content_type in ("", "application/json") or content_type.endswith("+json"):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    if content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(body)
    if content_type.endswith("yaml"):
        import yaml

        try:
            value = yaml.load(body, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
        except (yaml.YAMLError, orjson.JSONEncodeError, ValueError, RecursionError) as error:
            raise bad_request(f"error parsing YAML: {' '.join(str(error).split())}") from None
    raise unsupported_media_type(content_type, _BODY_TYPES)


def selection(call: Call) -> Selection:
    """The selectors in a request. Raises StatusError 400."""
    kind = call.target.kind
    fields = selectors.parse_fields(call.query.get("fieldSelector", ""), kind.selectable, kind.resource.kind)
    return Selection(
        call.target.namespace,
        selectors.parse_labels(call.query.get("labelSelector", "")),
        tuple(twins.inward_field(kind, each) for each in fields),
    )


def eviction_options(call: Call, eviction: Object) -> DeleteOptions:
    """How an Eviction wants its Pod to be deleted."""
    return _delete_options(call, eviction.get("deleteOptions") or {})


def delete_options(call: Call) -> DeleteOptions:
    """From the body (a DeleteOptions) or the query."""
    return _delete_options(call, call.document() if call.body else {})


def _delete_options(call: Call, given: Object) -> DeleteOptions:
    try:
        conform(TYPES["meta.DeleteOptions"], given)
    except WrongType as error:
        raise bad_request(f"the options of the deletion are malformed: {error}") from None
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds", call.query.get("gracePeriodSeconds"))
    orphans = given.get("orphanDependents", call.query.get("orphanDependents")) in (True, "true")
    try:
        seconds = None if grace is None else int(grace)
    except ValueError:
        raise bad_request(f"gracePeriodSeconds {grace!r} is not a number") from None
    policy = given.get("propagationPolicy") or call.query.get("propagationPolicy")
    if policy and policy not in PROPAGATIONS:
        raise invalid(_OPTIONS, "", [not_supported("propagationPolicy", policy, PROPAGATIONS)])
    return DeleteOptions(
        seconds,
        policy or ("Orphan" if orphans else ""),
        preconditions.get("uid") or "",
        preconditions.get("resourceVersion") or "",
        call.dry_run or "All" in (given.get("dryRun") or ()),
    )
