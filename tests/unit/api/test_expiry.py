"""Events that nobody repeats go after their time; others stay."""

import asyncio
from datetime import UTC, datetime, timedelta

from testbed.api import expiry
from testbed.api.registry import BY_ID


def test_old_events_go_and_repeated_ones_stay(opened) -> None:  # type: ignore[no-untyped-def]
    def event(name: str, minutes: int) -> dict[str, object]:
        last = datetime.now(UTC) - timedelta(minutes=minutes)
        return {"metadata": {"name": name}, "lastTimestamp": last.strftime("%Y-%m-%dT%H:%M:%SZ")}

    async def scene() -> None:
        async with opened() as objects:
            kind = BY_ID["events"]
            for name, minutes in (("repeated", 59), ("old", 61)):
                await objects.create(kind, "default", event(name, minutes))
            for record in objects.store.items("events"):
                obj = record.decode()
                obj["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
                await objects.store.put("events", record.key, obj)
            await expiry.expire(objects, 3600)
            assert [record.key[1] for record in objects.store.items("events")] == ["repeated"]

    asyncio.run(scene())
