"""What a new version of an object must be: of its kind, filled in, by the rules."""

from __future__ import annotations

from typing import Any

from testbed.api import dual_stack, rules, services
from testbed.api.registry import Kind
from testbed.api.schema import fill, of_kind
from testbed.api.status import bad_request, invalid
from testbed.model.resources import SERVICES

Object = dict[str, Any]

SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def check_type(kind: Kind, obj: Object) -> None:
    """An object must be of the kind that the URL names; what it leaves out is filled in."""
    resource = kind.resource
    for field, expected in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        given = obj.setdefault(field, expected)
        if given != expected:
            what = "kind" if field == "kind" else "API version"
            raise bad_request(
                f"the {what} in the data ({given}) does not match the expected {what} ({expected})"
            )
    obj.setdefault("metadata", {})
    for field in ("metadata", "spec", "status"):
        if not isinstance(obj.get(field, {}), dict):
            raise bad_request(f"{field} of a {resource.kind} must be an object")


def check_namespace(kind: Kind, namespace: str, metadata: Object) -> None:
    if not kind.resource.namespaced:
        metadata.pop("namespace", None)
    elif metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def judge(kind: Kind, obj: Object, old: Object | None) -> None:
    """Fill in defaults and validate. An object of the wrong shape is a bad request, not a crash."""
    name = str(obj["metadata"].get("name") or "")
    try:
        if old and kind.resource is SERVICES:
            dual_stack.link(obj.setdefault("spec", {}), old["spec"])
        kind.defaults(obj)
        fill(of_kind(kind.resource.group, kind.resource.kind), obj)
        if old and kind.resource is SERVICES:
            services.carry_over(obj, old)
        errors = rules.metadata(obj["metadata"], kind.name_rule)
        errors += kind.validate(obj, old)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError) as error:
        what = f'{kind.resource.kind} in version "{kind.resource.version}"'
        raise bad_request(f"{what} cannot be handled as a {kind.resource.kind}: {error}") from None
    if errors:
        raise invalid(kind.resource, name, errors)


def with_part(kind: Kind, old: Object, new: Object, part: str) -> Object:
    """`old` with only what a subresource may change."""
    result = dict(old)
    if part == "status":
        result["status"] = new.get("status") or {}
    elif part == "approval":
        conditions = (new.get("status") or {}).get("conditions") or []
        result["status"] = {**(old.get("status") or {}), "conditions": conditions}
    elif part == "finalize":
        result["spec"] = {**old["spec"], "finalizers": (new.get("spec") or {}).get("finalizers") or []}
    elif part == "binding":
        result |= {"spec": new["spec"], "status": new["status"]}
    return result


def body(obj: Object) -> Object:
    """What metadata.generation counts changes of."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def wrong_uid(given: str, actual: str) -> str:
    return f"Precondition failed: UID in precondition: {given}, UID in object meta: {actual}"
