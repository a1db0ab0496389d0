"""A copy of one kind's objects, kept up to date by list and watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from testbed.client.errors import ApiError, Gone
from testbed.client.rest import Client, Object
from testbed.model.resources import Resource

log = logging.getLogger(__name__)

Callback = Callable[[Object | None, Object | None], None]
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0
"""Seconds between attempts to reach the server: doubled each time, with jitter."""


def key_of(obj: Object) -> str:
    """The store's key of an object: "namespace/name", or "name" outside namespaces."""
    metadata: dict[str, Any] = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Informer:
    """`run()` it as a task; read `store` once `synced` is set. Never change an object of the store.

    Callbacks are plain functions called on the loop, in order of revision: `(None, new)` for an object
    that appeared, `(old, new)` for a change, `(old, None)` for one that went. `old` is what the store held.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.client = client
        self.resource = resource
        self.namespace = namespace
        self.label_selector = label_selector
        self.field_selector = field_selector
        self.store: dict[str, Object] = {}
        self.synced = asyncio.Event()
        self.resource_version = ""
        self._callbacks: list[Callback] = []
        self._delay = FIRST_DELAY

    def subscribe(self, callback: Callback) -> None:
        """Call `callback` on every change from now on; what the store holds already is replayed as new."""
        self._callbacks.append(callback)
        for obj in list(self.store.values()):
            self._call(callback, None, obj)

    async def run(self) -> None:
        """List and watch for ever."""
        while True:
            try:
                if not self.resource_version:
                    await self._list()
                await self._watch()
            except Gone:
                log.info(
                    "%s: revision %s is compacted, listing again", self.resource.plural, self.resource_version
                )
                self.resource_version = ""
            except ApiError as error:
                log.warning("%s: %s; trying again in %.1f s", self.resource.plural, error, self._delay)
                await asyncio.sleep(self._delay * random.uniform(0.8, 1.2))
                self._delay = min(self._delay * 2, LONGEST_DELAY)

    async def _list(self) -> None:
        listing = await self.client.list(
            self.resource,
            self.namespace,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
        )
        fresh = {key_of(obj): obj for obj in listing.items}
        for key in [key for key in self.store if key not in fresh]:
            self._set(key, None)
        for key, obj in fresh.items():
            held = self.store.get(key)
            if held is None or held["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                self._set(key, obj)
        self.resource_version = listing.resource_version
        self.synced.set()

    async def _watch(self) -> None:
        """One watch, to its end."""
        events = self.client.watch(
            self.resource,
            self.namespace,
            resource_version=self.resource_version,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
        )
        async for event in events:
            self._delay = FIRST_DELAY
            self.resource_version = event.object["metadata"]["resourceVersion"]
            if event.type != "BOOKMARK":
                self._set(key_of(event.object), None if event.type == "DELETED" else event.object)

    def _set(self, key: str, new: Object | None) -> None:
        old = self.store.get(key)
        if new is not None:
            self.store[key] = new
        elif self.store.pop(key, None) is None:
            return
        for callback in self._callbacks:
            self._call(callback, old, new)

    def _call(self, callback: Callback, old: Object | None, new: Object | None) -> None:
        """One subscriber's fault must not stop the others."""
        try:
            callback(old, new)
        except Exception:
            log.exception("%s: a subscriber failed", self.resource.plural)
