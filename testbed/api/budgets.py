"""PodDisruptionBudgets: columns, defaults, validation (k8s.io/kubernetes `pkg/apis/policy/validation`)."""

from __future__ import annotations

import re
from typing import Any

from testbed.api import rules
from testbed.api.cells import Column, at
from testbed.api.columns import AGE, NAME
from testbed.api.rules import Errors
from testbed.api.status import invalid_value, not_supported

Object = dict[str, Any]

POLICIES = ("AlwaysAllow", "IfHealthyBudget")
COLUMNS = (
    NAME,
    Column("Min Available", at("spec.minAvailable", "N/A")),
    Column("Max Unavailable", at("spec.maxUnavailable", "N/A")),
    Column("Allowed Disruptions", at("status.disruptionsAllowed", 0), type="integer"),
    AGE,
)


def validate(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    errors: Errors = []
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        told = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid_value("spec", {}, told))
    for field in ("minAvailable", "maxUnavailable"):
        if spec.get(field) is not None:
            errors += _amount(spec[field], f"spec.{field}")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in POLICIES:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, POLICIES))
    return errors + rules.labels((spec.get("selector") or {}).get("matchLabels"), "spec.selector.matchLabels")


def _amount(value: Any, field: str) -> Errors:
    """A number of Pods, or a percentage of them."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]+%", value):
            told = "a valid percent string must be a numeric string followed by an ending '%'"
            return [
                invalid_value(
                    field, value, f"{told} (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
                )
            ]
        return (
            [] if int(value[:-1]) <= 100 else [invalid_value(field, value, "must not be greater than 100%")]
        )
    return [] if value >= 0 else [invalid_value(field, value, "must be greater than or equal to 0")]
