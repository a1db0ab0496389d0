"""What a column of a Table answer is, and the forms that cells take: ages, lists, selectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
NONE = "<none>"
UNKNOWN = "<unknown>"


@dataclass(frozen=True)
class Column:
    """A name, how to get the cell from an object, and whether only `-o wide` shows it."""

    name: str
    cell: Callable[[Object], Any]
    wide: bool = False
    type: str = "string"

    @property
    def definition(self) -> Object:
        """Its TableColumnDefinition."""
        form = "name" if self.name == "Name" else ""
        return {
            "name": self.name,
            "type": self.type,
            "format": form,
            "description": "",
            "priority": int(self.wide),
        }


def age(stamp: str | None) -> str:
    """How long ago, as apimachinery `duration.HumanDuration`: 45s, 3m20s, 5h, 2d3h."""
    if not stamp:
        return UNKNOWN
    then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return duration(int((datetime.now(UTC) - then).total_seconds()))


def duration(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(big: int, unit: str, small: int, small_unit: str) -> str:
    return f"{big}{unit}{small}{small_unit}" if small else f"{big}{unit}"


def at(path: str, default: Any = "") -> Callable[[Object], Any]:
    """The cell at a dotted path."""
    parts = path.split(".")

    def cell(obj: Object) -> Any:
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    return cell


def joined(values: Any, limit: int = 0) -> str:
    """Values joined by commas; with `limit`, the first ones and how many more there are."""
    texts = [str(value) for value in values]
    if limit and len(texts) > limit:
        return f"{','.join(texts[:limit])} + {len(texts) - limit} more..."
    return ",".join(texts) or NONE


def selector(value: Any) -> str:
    """A LabelSelector or a plain map, as kubectl writes one."""
    value = value or {}
    plain = value.get("matchLabels") if "matchLabels" in value or "matchExpressions" in value else value
    terms = [f"{key}={text}" for key, text in sorted((plain or {}).items())]
    for term in value.get("matchExpressions") or () if isinstance(value, dict) else ():
        values = ",".join(term.get("values") or ())
        forms = {
            "In": f"{term['key']} in ({values})",
            "NotIn": f"{term['key']} notin ({values})",
            "Exists": term["key"],
            "DoesNotExist": f"!{term['key']}",
        }
        terms.append(forms.get(term["operator"], ""))
    return ",".join(terms) or NONE


def condition(obj: Object, kind: str) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((each.get("status", "") for each in conditions if each.get("type") == kind), "")
