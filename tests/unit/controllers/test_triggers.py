"""The time that goes into an EndpointSlice: of the Service first, then of the Pod that made it change."""

from __future__ import annotations

from typing import Any

from testbed.controllers.slices import Group, fit
from testbed.controllers.triggers import LAST_CHANGE, TriggerTimes

SERVICE = {"metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:09Z"}}
METADATA: dict[str, Any] = {"generateName": "web-", "namespace": "default", "labels": {}}


def pod(uid: str, since: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": f"2026-01-01T00:00:{since}Z"}
    return {"metadata": {"uid": uid}, "status": {"conditions": [ready]}}


def test_the_service_first_then_the_pods() -> None:
    times = TriggerTimes()
    old = pod("a", "05")
    assert times.next("default/web", SERVICE, [old]) == "2026-01-01T00:00:09Z"
    assert times.next("default/web", SERVICE, [old]) == ""
    fresh = [old, pod("b", "20"), pod("c", "15")]
    assert times.next("default/web", SERVICE, fresh) == "2026-01-01T00:00:15Z", "the earliest that is new"
    assert times.next("default/web", SERVICE, fresh[:1]) == "", "a Pod that goes has no time"
    assert times.next("default/web", SERVICE, [pod("a", "30")]) == "2026-01-01T00:00:30Z"
    times.forget("default/web")
    assert times.next("default/web", SERVICE, []) == "2026-01-01T00:00:09Z"


def test_a_pod_without_a_time_has_none() -> None:
    times = TriggerTimes()
    times.next("default/web", SERVICE, [])
    assert times.next("default/web", SERVICE, [{"metadata": {"uid": "a"}}]) == ""


def test_slices_carry_the_time_of_the_change_that_touches_them() -> None:
    def told(since: str) -> dict[str, Any]:
        return {**METADATA, "annotations": {LAST_CHANGE: since}} if since else METADATA

    endpoints = [{"addresses": [f"10.0.0.{number}"]} for number in range(3)]
    (made,) = fit([], [Group("IPv4", [], endpoints[:1])], told("1")).create
    assert made["metadata"]["annotations"] == {LAST_CHANGE: "1"}
    held = {**made, "metadata": {**made["metadata"], "name": "web-1"}}
    (updated,) = fit([held], [Group("IPv4", [], endpoints[:2])], told("2")).update
    assert updated["metadata"]["annotations"] == {LAST_CHANGE: "2"}
    (updated,) = fit([updated], [Group("IPv4", [], endpoints)], told("")).update
    assert updated["metadata"]["annotations"] == {}, "an old time is no time of this change"
    assert fit([held], [Group("IPv4", [], endpoints[:1])], told("3")).update == []
