"""How many Pods each ReplicaSet of a Deployment should have next. Pure.

The rule is that of Kubernetes' deployment controller (pkg/controller/deployment/rolling.go): never more than
`desired + surge` Pods, never fewer than `desired - unavailable` available ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of generated names: no vowels, nothing that is easily mixed up (apimachinery, util/rand)."""


@dataclass(frozen=True)
class Scale:
    """A ReplicaSet: the Pods it was told to have, and those of them that are available."""

    name: str
    replicas: int
    available: int


def template_hash(template: Mapping[str, Any]) -> str:
    """The `pod-template-hash`: the same for the same template, ten letters."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(SAFE_LETTERS[byte % len(SAFE_LETTERS)] for byte in digest[:10])


def bounds(desired: int, strategy: Mapping[str, Any]) -> tuple[int, int]:
    """`(surge, unavailable)` in Pods. Surge is rounded up, unavailable down, and never are both 0."""
    if strategy.get("type") == "Recreate":
        return 0, desired
    rolling = strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), desired, math.ceil)
    unavailable = share(rolling.get("maxUnavailable", "25%"), desired, math.floor)
    return surge, min(desired, unavailable if surge or unavailable else 1)


def share(value: int | str, whole: int, rounded: Any = math.ceil) -> int:
    """A number of Pods, given as such or as a percentage of the whole."""
    if isinstance(value, str) and value.endswith("%"):
        return int(rounded(int(value[:-1]) * whole / 100))
    return int(value)


def rolling(desired: int, surge: int, unavailable: int, new: Scale, old: Sequence[Scale]) -> dict[str, int]:
    """What to change now, by ReplicaSet; `old` in order of age. Empty: nothing, or wait."""
    total = new.replicas + sum(each.replicas for each in old)
    if new.replicas > desired:
        return {new.name: desired}
    room = min(desired + surge - total, desired - new.replicas)
    if room > 0:
        return {new.name: new.replicas + room}
    lowest = desired - unavailable
    sick = total - lowest - (new.replicas - new.available)
    wanted = {each.name: each.replicas for each in old}
    for each in old:  # first those that serve nobody
        cut = max(0, min(sick, each.replicas - each.available))
        wanted[each.name] -= cut
        sick -= cut
    spare = new.available + sum(each.available for each in old) - lowest
    for each in old:
        cut = max(0, min(spare, wanted[each.name], sick))
        wanted[each.name] -= cut
        spare -= cut
        sick -= cut
    return {each.name: wanted[each.name] for each in old if wanted[each.name] != each.replicas}


def recreate(desired: int, new: Scale, old: Sequence[Scale], old_pods: int) -> dict[str, int]:
    """Old Pods go first; the new come when the last of them is gone."""
    if any(each.replicas for each in old):
        return {each.name: 0 for each in old if each.replicas}
    return {new.name: desired} if not old_pods and new.replicas != desired else {}
