"""Refusals in Kubernetes' own form: the Status object, and the field errors inside an Invalid one.

Wording and reasons follow k8s.io/apimachinery `pkg/api/errors` and `pkg/util/validation/field`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from testbed.model.resources import Resource

Object = dict[str, Any]

RETRY_SECONDS = 1
"""When a caller who was one too many may come back."""


@dataclass(frozen=True)
class FieldError:
    """One broken rule. `field`: "spec.ports[0].nodePort"; `message`: what kubectl prints after it."""

    field: str
    reason: str
    message: str

    @property
    def cause(self) -> Object:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def go_value(value: Any) -> str:
    """A value as Go's %q, %v and %#v print it inside field errors."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[]string{" + ", ".join(go_value(item) for item in value) + "}"
    return orjson.dumps(value).decode()


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {go_value(value)}: {detail}")


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(field, "FieldValueDuplicate", f"Duplicate value: {go_value(value)}")


def not_supported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    known = ", ".join(go_value(item) for item in sorted(supported))
    detail = f"Unsupported value: {go_value(value)}: supported values: {known}"
    return FieldError(field, "FieldValueNotSupported", detail)


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError(field, "FieldValueForbidden", f"Forbidden: {detail}")


class StatusError(Exception):
    """A request is refused with this HTTP code and Status."""

    def __init__(
        self, code: int, reason: str, message: str, details: Object | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.retry_after = retry_after

    @property
    def status(self) -> Object:
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details:
            body["details"] = self.details
        return body | {"code": self.code}


def _details(resource: Resource, name: str) -> Object:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


def not_found(resource: Resource, name: str) -> StatusError:
    message = f'{resource.qualified} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(resource, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(why: str = "") -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", f"{message}: {why}" if why else message, {})


def already_exists(resource: Resource, name: str) -> StatusError:
    message = f'{resource.qualified} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: Resource, name: str, detail: str = "") -> StatusError:
    detail = detail or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {detail}'
    return StatusError(409, "Conflict", message, _details(resource, name))


def invalid(resource: Resource, name: str, errors: Sequence[FieldError]) -> StatusError:
    """The 422 answer for objects that break rules, one cause a rule."""
    told = [f"{error.field}: {error.message}" for error in errors]
    listed = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    group = f".{resource.group}" if resource.group else ""
    message = f'{resource.kind}{group} "{name}" is invalid: {listed}'
    details = _details(resource, name) | {"kind": resource.kind}
    details["causes"] = [error.cause for error in errors]
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def too_many_requests() -> StatusError:
    told = "Too many requests, please try again later."
    return StatusError(429, "TooManyRequests", told, retry_after=RETRY_SECONDS)


def too_large() -> StatusError:
    message = "Request entity too large: limit is 3145728"
    return StatusError(413, "RequestEntityTooLarge", message)


def unsupported_media_type(given: str, known: Sequence[str]) -> StatusError:
    message = f"the body of the request was in an unknown format ({given}) - accepted media types include: "
    return StatusError(415, "UnsupportedMediaType", message + ", ".join(known))


def not_acceptable(known: Sequence[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(known)}"
    return StatusError(406, "NotAcceptable", message)


def forbidden(resource: Resource, name: str, detail: str) -> StatusError:
    target = f'{resource.qualified} "{name}"' if name else resource.qualified
    return StatusError(403, "Forbidden", f"{target} is forbidden: {detail}", _details(resource, name))


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def success(resource: Resource, name: str, uid: str) -> Object:
    """The answer to a deletion that is done."""
    details = _details(resource, name) | {"uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
