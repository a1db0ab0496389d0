"""`fieldValidation`: Strict refuses unknown fields, Warn (also when nothing is said) tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.api import schema
from testbed.api.calls import Call
from testbed.api.lifecycle import Change
from testbed.api.status import bad_request

Object = dict[str, Any]

LEVELS = ("Ignore", "Strict", "Warn")


def check(call: Call, obj: Object, forgiven: Sequence[str] = ()) -> None:
    """Judge what a request would store. Raises StatusError 400, or adds to the call's warnings."""
    level = call.query.get("fieldValidation") or "Warn"
    if level not in LEVELS:
        known = ", ".join(f'"{each}"' for each in LEVELS)
        raise bad_request(f'fieldValidation: Unsupported value: "{level}": supported values: {known}')
    if level == "Ignore" or call.target.subresource:
        return
    resource = call.target.kind.resource
    told = [f'unknown field "{each}"' for each in schema.unknown(resource.kind, obj) if each not in forgiven]
    if told and level == "Strict":
        what = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise bad_request(f"{what}: strict decoding error: {', '.join(told)}")
    call.warnings.extend(told)


def patched(call: Call, change: Change) -> Change:
    """The change, checked. What the object had before is not the patch's fault."""

    def checked(old: Object) -> Object:
        before = schema.unknown(call.target.kind.resource.kind, old)
        new = change(old)
        if isinstance(new, dict):
            check(call, new, before)
        return new

    return checked
