"""Conditions in an object's status, and the timestamps that go with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


def timestamp(nanoseconds: int = 0, micro: bool = False) -> str:
    """Now, or a time since the epoch, as the API writes a Time (whole seconds) or a MicroTime."""
    time = datetime.fromtimestamp(nanoseconds / 1e9, UTC) if nanoseconds else datetime.now(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def seconds_since(time: str) -> float:
    """Seconds from a Time or MicroTime of the API to now."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def condition(obj: Object, kind: str) -> Object | None:
    """The condition of that type, if the object has one."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), None)


def holds(obj: Object, kind: str) -> bool:
    """Whether the condition of that type is True."""
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"


def transition(obj: Object, kind: str, status: bool, reason: str = "", message: str = "") -> Object:
    """The condition as it is to be written; `lastTransitionTime` is kept while the status is the same."""
    word = "True" if status else "False"
    held = condition(obj, kind)
    same = held is not None and held["status"] == word
    since = held.get("lastTransitionTime") if held and same else None
    made = {"type": kind, "status": word, "lastTransitionTime": since or timestamp()}
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    return made
