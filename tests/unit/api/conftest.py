"""A store with all kinds on a scratch file, and the life of objects in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import settings

from testbed.api.journal import SQLiteJournal
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID, derive, index
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.store import Store
from testbed.model.topology import PortRange

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

Opened = Callable[[], AbstractAsyncContextManager[Objects]]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """`async with opened() as objects`: the same file each time, with a namespace `default`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Objects]:
        store = Store(SQLiteJournal(tmp_path / "api.db"), index, window=64, derive=derive)
        store.start()
        objects = Objects(store, ServiceAddresses([IPv4Network("10.96.0.0/24")], PortRange(30000, 30099)))
        if not store.get("namespaces", ("", "default")):
            await objects.create(BY_ID["namespaces"], "", {"metadata": {"name": "default"}})
        try:
            yield objects
        finally:
            await store.close()

    return opening
