"""When the change was made that a new EndpointSlice answers to: a Pod's readiness, or the Service itself.

It goes into an annotation of the slice, from which a proxy computes its network programming latency.
Source: kubernetes staging/src/k8s.io/endpointslice/trigger_time_tracker.go. Like there, times of Pods are
whole seconds, and a Pod that goes has no time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.model.conditions import condition

Object = dict[str, Any]

LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """Remembers, for each Service, the times it has told of."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[str, dict[str, str]]] = {}

    def next(self, key: str, service: Object, pods: Iterable[Object]) -> str:
        """The earliest time that is new since the last call for this Service; "" if there is none.

        The first time it is that of the Service.
        """
        created = str(service["metadata"].get("creationTimestamp") or "")
        times = {pod["metadata"]["uid"]: _ready_since(pod) for pod in pods}
        held, self._services[key] = self._services.get(key), (created, times)
        if held is None:
            return created
        fresh = [time for uid, time in times.items() if time > held[1].get(uid, "")]
        if created > held[0]:
            fresh.append(created)
        return min(fresh, default="")

    def forget(self, key: str) -> None:
        self._services.pop(key, None)


def _ready_since(pod: Object) -> str:
    ready = condition(pod, "Ready") or {}
    return str(ready.get("lastTransitionTime") or "")
