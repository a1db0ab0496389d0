"""Events: what a component did or could not do, told beside the object it happened to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from testbed.client.errors import ApiError
from testbed.client.rest import Client
from testbed.model.conditions import timestamp
from testbed.model.resources import EVENTS

log = logging.getLogger(__name__)

Object = dict[str, Any]
MOST_REMEMBERED = 1000
MOST_WAITING = 5000
LULL, LONGEST_WAIT = 0.2, 30.0
"""Seconds: notes are written when none has come for so long, or when the first of them has waited so long."""


class Recorder:
    """Writes Events. The same one again raises the count of the first. A failure to write is only logged."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._source = {"component": component} | ({"host": host} if host else {})
        self._counts: dict[tuple[str, ...], tuple[str, int]] = {}
        self._notes: deque[tuple[Object, str, str, str, int]] = deque()
        self._noted = 0
        self._writer: asyncio.Task[None] | None = None

    async def normal(self, obj: Object, reason: str, message: str) -> None:
        await self._record(obj, "Normal", reason, message)

    async def warn(self, obj: Object, reason: str, message: str) -> None:
        await self._record(obj, "Warning", reason, message)

    def note(self, obj: Object, reason: str, message: str) -> None:
        """Tell what went well when there is time: in a lull, one after the other, in the background.

        A thousand Pods that come have five things told of each. When too many wait, further ones are let go,
        as Kubernetes' recorders do.
        """
        self._noted = time.time_ns()
        if len(self._notes) < MOST_WAITING:
            self._notes.append((obj, "Normal", reason, message, self._noted))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_notes())

    async def _write_notes(self) -> None:
        while self._notes:
            first = self._notes[0][-1]
            early = min(self._noted + LULL * 1e9, first + LONGEST_WAIT * 1e9) - time.time_ns()
            if early > 0:
                await asyncio.sleep(min(early / 1e9, LULL))
            else:
                await self._record(*self._notes.popleft())

    async def _record(self, obj: Object, kind: str, reason: str, message: str, when: int = 0) -> None:
        """`when`: nanoseconds since the epoch; 0 for now."""
        metadata, when = obj["metadata"], when or time.time_ns()
        namespace = metadata.get("namespace") or "default"
        key = (metadata.get("uid", ""), metadata["name"], kind, reason, message)
        name, count = self._counts.get(key, ("", 0))
        try:
            if name:
                patch = {"count": count + 1, "lastTimestamp": timestamp(when)}
                await self._client.patch(EVENTS, name, namespace, patch)
            else:
                event = self._event(obj, namespace, kind, reason, message, when)
                await self._client.create(EVENTS, event)
                name = event["metadata"]["name"]
        except ApiError as error:
            log.warning("event %s of %s: %s", reason, metadata["name"], error)
            self._counts.pop(key, None)
            return
        if len(self._counts) >= MOST_REMEMBERED:
            self._counts.pop(next(iter(self._counts)))
        self._counts[key] = (name, count + 1)

    def _event(self, obj: Object, namespace: str, kind: str, reason: str, message: str, when: int) -> Object:
        metadata = obj["metadata"]
        involved = {
            "apiVersion": obj.get("apiVersion", "v1"),
            "kind": obj.get("kind", ""),
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        }
        if metadata.get("namespace"):
            involved["namespace"] = metadata["namespace"]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            # Named as Kubernetes does, so that a list has them in the order in which they happened.
            "metadata": {"name": f"{metadata['name']}.{when:x}", "namespace": namespace},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            "firstTimestamp": timestamp(when),
            "lastTimestamp": timestamp(when),
            "count": 1,
        }
