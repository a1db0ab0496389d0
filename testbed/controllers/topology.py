"""Topology-aware routing (KEP-2433): endpoints shared out among zones by the processors of these. Pure.

For Services annotated `service.kubernetes.io/topology-mode: Auto`. Each ready endpoint gets one zone's hint:
its own, or that of a zone which has too few. Where the shares cannot be met, no endpoint has any: the traffic
of each zone then goes anywhere, which is better than too much of it going to too few.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.model import quantity
from testbed.model.conditions import holds

Object = dict[str, Any]

ANNOTATION = "service.kubernetes.io/topology-mode"
ZONE = "topology.kubernetes.io/zone"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
OVERLOAD = 0.2
"""By how much the endpoints of a zone may have more to do than those of the whole cluster on average."""


def is_wanted(service: Object) -> bool:
    return (service["metadata"].get("annotations") or {}).get(ANNOTATION) in ("Auto", "auto")


def shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Of the processors of all ready workers those of each zone, together 1; {} where a node is in none."""
    processors: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if CONTROL_PLANE in labels or not holds(node, "Ready"):
            continue
        amount = (node["status"].get("allocatable") or {}).get("cpu")
        if not labels.get(ZONE) or not amount:
            return {}
        processors[labels[ZONE]] += float(quantity.parse(amount))
    total = sum(processors.values())
    return {zone: amount / total for zone, amount in processors.items()}


def hinted(endpoints: Sequence[Object], share: Mapping[str, float]) -> list[Object]:
    """The endpoints with their hints; without any where the zones cannot each have their share."""
    plain = [{key: value for key, value in each.items() if key != "hints"} for each in endpoints]
    ready = [each for each in plain if each["conditions"]["ready"]]
    fewest = {zone: math.ceil(part * len(ready) / (1 + OVERLOAD)) for zone, part in share.items()}
    if not 2 <= len(share) <= len(ready) or sum(fewest.values()) > len(ready):
        return plain
    zones = [str(each.get("zone")) for each in ready]
    if not set(zones) <= share.keys():
        return plain
    surplus = {zone: zones.count(zone) - max(fewest[zone], share[zone] * len(ready)) for zone in share}
    while True:
        most, least = (choose(surplus, key=surplus.__getitem__) for choose in (max, min))
        if surplus[most] <= 0 or (surplus[most] < 1 and surplus[least] > -1):
            break
        at = len(zones) - 1 - zones[::-1].index(most)
        zones[at] = least
        surplus[most] -= 1
        surplus[least] += 1
    for each, zone in zip(ready, zones, strict=True):
        each["hints"] = {"forZones": [{"name": zone}]}
    return plain
