"""What the API server refused, and why: its Status object as an exception."""

from __future__ import annotations

from typing import Any

from testbed.errors import TestbedError


class ApiError(TestbedError):
    """A request failed. `status` is the server's Status object, `code` the HTTP code, `reason` its word."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status
        self.code = int(status.get("code") or 0)
        self.reason = str(status.get("reason") or "")
        super().__init__(str(status.get("message") or f"the API server answered {self.code}"))


class NotFound(ApiError):
    """There is no such object (or kind)."""


class AlreadyExists(ApiError):
    """The name is taken."""


class Conflict(ApiError):
    """The object changed since it was read: read it again."""


class Gone(ApiError):
    """The revision is too old to watch from: list again."""


class Invalid(ApiError):
    """The object breaks a rule; `status["details"]["causes"]` says which."""


class Unreachable(ApiError):
    """No answer came: connection refused, cut or timed out. `code` is 0."""

    def __init__(self, message: str) -> None:
        super().__init__({"message": message, "reason": "Unreachable", "code": 0})


_BY_REASON: dict[str, type[ApiError]] = {
    "NotFound": NotFound,
    "AlreadyExists": AlreadyExists,
    "Conflict": Conflict,
    "Gone": Gone,
    "Expired": Gone,
    "Invalid": Invalid,
}
_BY_CODE: dict[int, type[ApiError]] = {404: NotFound, 409: Conflict, 410: Gone, 422: Invalid}


def error_of(status: dict[str, Any]) -> ApiError:
    """The exception for a Status object."""
    kind = _BY_REASON.get(str(status.get("reason"))) or _BY_CODE.get(int(status.get("code") or 0), ApiError)
    return kind(status)
