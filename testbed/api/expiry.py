"""Events do not last: one that nobody has repeated for its time to live is deleted, as by etcd's lease."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from testbed.api.lifecycle import DeleteOptions
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID
from testbed.api.status import StatusError
from testbed.model.resources import EVENTS

log = logging.getLogger(__name__)

EVENT_TTL = 3600.0
"""Seconds, as kube-apiserver's --event-ttl."""
EVERY = 60.0
_TIMES = ("lastTimestamp", "eventTime")


async def run(objects: Objects, ttl: float) -> None:
    """For ever."""
    while True:
        await expire(objects, ttl)
        await asyncio.sleep(min(EVERY, ttl))


async def expire(objects: Objects, ttl: float) -> None:
    """Delete the Events that are older than `ttl` seconds."""
    kind = BY_ID[EVENTS.qualified]
    limit = (datetime.now(UTC) - timedelta(seconds=ttl)).isoformat(timespec="seconds")[:19]
    for record in objects.store.items(kind.id):
        if _last(record.decode())[:19] < limit:
            try:
                await objects.delete(kind, record.key, DeleteOptions())
            except StatusError as error:
                log.debug("event %s: %s", record.key, error)


def _last(event: dict[str, Any]) -> str:
    """The latest of its times; all are RFC 3339 in UTC, so they sort as text."""
    times = [event["metadata"]["creationTimestamp"], (event.get("series") or {}).get("lastObservedTime")]
    times += [event.get(name) for name in _TIMES]
    return max(time for time in times if isinstance(time, str))
