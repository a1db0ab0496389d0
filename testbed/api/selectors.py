"""Label and field selectors: parsing and matching, as apimachinery `pkg/labels` and `pkg/fields` do it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from testbed.api.status import StatusError, bad_request

_KEY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_TERMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"({_KEY})\s*==?\s*({_VALUE})"), "in"),
    (re.compile(rf"({_KEY})\s*!=\s*({_VALUE})"), "notin"),
    (re.compile(rf"({_KEY})\s+in\s*\(([^()]*)\)"), "in"),
    (re.compile(rf"({_KEY})\s+notin\s*\(([^()]*)\)"), "notin"),
    (re.compile(rf"({_KEY})\s*>\s*(-?\d+)"), "gt"),
    (re.compile(rf"({_KEY})\s*<\s*(-?\d+)"), "lt"),
    (re.compile(rf"!\s*({_KEY})"), "absent"),
    (re.compile(rf"({_KEY})"), "present"),
)
_BETWEEN_TERMS = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True)
class Requirement:
    """One term. `operator`: in, notin, gt, lt, present, absent."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()


def _compare(value: str | None, values: frozenset[str], sign: int) -> bool:
    (bound,) = values
    try:
        return value is not None and sign * (int(value) - int(bound)) > 0
    except ValueError:
        return False


_OPERATORS: dict[str, Callable[[str | None, frozenset[str]], bool]] = {
    "in": lambda value, values: value in values,
    "notin": lambda value, values: value not in values,
    "present": lambda value, values: value is not None,
    "absent": lambda value, values: value is None,
    "gt": lambda value, values: _compare(value, values, 1),
    "lt": lambda value, values: _compare(value, values, -1),
}


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (f,g),h,!i` -> its terms. Raises StatusError 400."""
    return tuple(_term(part.strip()) for part in _BETWEEN_TERMS.split(text)) if text.strip() else ()


def _term(text: str) -> Requirement:
    for pattern, operator in _TERMS:
        match = pattern.fullmatch(text)
        if match:
            values = match[2].split(",") if match.lastindex == 2 else []
            wanted = frozenset(value.strip() for value in values)
            if all(re.fullmatch(_VALUE, value) or operator in ("gt", "lt") for value in wanted):
                return Requirement(match[1], operator, wanted)
    raise bad_request(f"unable to parse requirement: found {text!r}, expected: a label selector term")


def parse_fields(text: str, known: frozenset[str], kind: str) -> tuple[Requirement, ...]:
    """`metadata.name=x,status.phase!=Running` -> its terms. Raises StatusError 400 for a field not known."""
    terms = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==?|!=)(.*)", part)
        if not match:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if match[1] not in known:
            raise _unknown_field(match[1], kind)
        terms.append(Requirement(match[1], "notin" if match[2] == "!=" else "in", frozenset({match[3]})))
    return tuple(terms)


def _unknown_field(field: str, kind: str) -> StatusError:
    return bad_request(f'field label not supported: {field} (kind "{kind}")')


def matches(requirements: tuple[Requirement, ...], value: Callable[[str], str | None]) -> bool:
    """Whether all terms hold; `value` gives what is there under a key."""
    return all(_OPERATORS[each.operator](value(each.key), each.values) for each in requirements)
