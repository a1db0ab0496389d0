"""What a request would store, held against the table of fields.

A value of the wrong type is refused. A field that the kind has not is dropped; `fieldValidation` says
whether the caller is told (Warn, also when nothing is said) or refused (Strict).
"""

from __future__ import annotations

from typing import Any

from testbed.api import schema
from testbed.api.calls import Call
from testbed.api.lifecycle import Change
from testbed.api.status import bad_request

Object = dict[str, Any]

LEVELS = ("Ignore", "Strict", "Warn")


def check(call: Call, obj: Object) -> Object:
    """The object without what its kind has not. Raises StatusError 400, or adds to the call's warnings."""
    level = call.query.get("fieldValidation") or "Warn"
    if level not in LEVELS:
        known = ", ".join(f'"{each}"' for each in LEVELS)
        raise bad_request(f'fieldValidation: Unsupported value: "{level}": supported values: {known}')
    spoken = call.spoken
    what = f'{spoken.kind} in version "{spoken.version}" cannot be handled as a {spoken.kind}'
    try:
        unknown = schema.conform(call.type, obj)
    except schema.WrongType as error:
        raise bad_request(f"{what}: {error}") from None
    told = [f'unknown field "{each}"' for each in unknown]
    if told and level == "Strict":
        raise bad_request(f"{what}: strict decoding error: {', '.join(told)}")
    if level == "Warn":
        call.warnings.extend(told)
    return obj


def checked(call: Call, change: Change) -> Change:
    """The change, with what it makes checked."""

    def apply(old: Object) -> Object:
        new = change(old)
        return check(call, new) if isinstance(new, dict) else new

    return apply
