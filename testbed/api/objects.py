"""The life of an object: created, changed, deleted, by the rules that hold for every kind.

A write looks at the newest version and submits its own with nothing awaited in between, so writes never
interleave; it is acknowledged when the store has made it durable.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from testbed.api import lifecycle
from testbed.api.judgement import (
    SYSTEM_FIELDS,
    body,
    check_namespace,
    check_type,
    judge,
    with_part,
    wrong_uid,
)
from testbed.api.lifecycle import Change, DeleteOptions, is_over, now
from testbed.api.registry import BY_ID, KINDS, Kind
from testbed.api.service_addresses import Held, ServiceAddresses
from testbed.api.status import (
    already_exists,
    bad_request,
    conflict,
    forbidden,
    internal,
    not_found,
    success,
)
from testbed.api.store import Key, Record, StorageFailed, Store
from testbed.model.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, SERVICES

Object = dict[str, Any]

Stamp = Callable[[Object, Object], None]
Admit = Callable[[Object, Object | None], None]
"""(new, old) -> nothing, or StatusError if its writer may not write that."""


def _uid() -> str:
    """A random UUID; nothing depends on nobody being able to guess it."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _anybody(new: Object, old: Object | None) -> None:
    """May write anything."""


RETURNED = (PODS, SERVICES, SERVICE_ACCOUNTS)
"""Kinds whose deletion is answered by what they were; of others by a Status."""
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_NAME_TRIES = 8


class Objects:
    """Creates, changes and deletes objects in a store. All methods raise StatusError."""

    def __init__(self, store: Store, addresses: ServiceAddresses) -> None:
        self.store, self.addresses = store, addresses
        store.failed_hook = self.adopt_services
        self.adopt_services()

    def adopt_services(self) -> None:
        """Derive what Services hold from what is stored."""
        self.addresses.adopt(record.decode() for record in self.store.items(BY_ID["services"].id))

    def find(self, kind: Kind, key: Key) -> Record:
        """The newest durable version."""
        record = self.store.get(kind.id, key)
        if record is None:
            raise not_found(kind.resource, key[1])
        return record

    # -- create

    async def create(
        self,
        kind: Kind,
        namespace: str,
        obj: Object,
        *,
        dry_run: bool = False,
        stamp: Callable[[Object], None] = lambda new: None,
        admit: Admit = _anybody,
    ) -> bytes:
        """Store a new object. Its JSON as stored."""
        metadata = self._new_metadata(kind, namespace, obj)
        self._namespace_takes(kind, namespace, metadata)
        key = self._free_key(kind, namespace, metadata)
        if self.store.latest(kind.id, key):
            await self.store.settled()
            raise already_exists(kind.resource, key[1])
        if kind.status and kind.first_status is not None:
            obj["status"] = dict(kind.first_status)
        if kind.spec:
            metadata["generation"] = 1
        judge(kind, obj, None)
        admit(obj, None)
        stamp(obj)
        taken = self._assign(kind, obj, None)
        if dry_run:
            self._unassign(kind, obj, taken)
            return orjson.dumps(obj)
        return await self._durable(self.store.put(kind.id, key, obj))

    def _new_metadata(self, kind: Kind, namespace: str, obj: Object) -> Object:
        check_type(kind, obj)
        metadata: Object = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        check_namespace(kind, namespace, metadata)
        for name in ("selfLink", "managedFields", *SYSTEM_FIELDS):
            metadata.pop(name, None)
        metadata["uid"] = _uid()
        metadata["creationTimestamp"] = now()
        return metadata

    def _namespace_takes(self, kind: Kind, namespace: str, metadata: Object) -> None:
        """The namespace must be there, and stay there."""
        if not kind.resource.namespaced:
            return
        record = self.store.latest(NAMESPACES.qualified, ("", namespace))
        if record is None:
            raise not_found(NAMESPACES, namespace)
        if record.fields.get("status.phase") == "Terminating":
            detail = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(kind.resource, metadata.get("name", ""), detail)

    def _free_key(self, kind: Kind, namespace: str, metadata: Object) -> Key:
        prefix = metadata.get("generateName")
        if metadata.get("name") or not isinstance(prefix, str):
            return namespace, str(metadata.get("name", ""))
        for _ in range(_NAME_TRIES):
            metadata["name"] = prefix[:58] + "".join(random.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH))
            if not self.store.latest(kind.id, (namespace, metadata["name"])):
                break
        return namespace, metadata["name"]

    # -- update

    async def update(
        self,
        kind: Kind,
        key: Key,
        change: Change,
        *,
        part: str = "",
        dry_run: bool = False,
        stamp: Stamp = lambda old, new: None,
        admit: Admit = _anybody,
    ) -> bytes:
        """Replace an object by what `change` makes of a copy of it. `part`: "", status, finalize, binding.

        `stamp` leaves in the new one who changed which fields of the old; `admit` has the last word.
        """
        record = self.store.latest(kind.id, key)
        if record is None:
            raise not_found(kind.resource, key[1])
        old = record.decode()
        new = change(record.decode())
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise bad_request(f"the result is not an object of kind {kind.resource.kind}")
        version = new["metadata"].get("resourceVersion")
        if version not in (None, "", "0", str(record.revision)):
            await self.store.settled()
            raise conflict(kind.resource, key[1])
        new = self._next(kind, key, old, new, part)
        admit(new, old)
        if not part:
            stamp(old, new)
        if new == old:
            return record.data if self.store.get(kind.id, key) is record else await self._settled(record)
        if is_over(kind, new):
            return record.data if dry_run else await self._remove(kind, key, new)
        taken = self._assign(kind, new, old)
        if dry_run:
            self._unassign(kind, new, taken)
            return orjson.dumps(new)
        future = self.store.put(kind.id, key, new)
        if kind.resource is SERVICES:
            self.addresses.release(old, new)
        return await self._durable(future)

    async def _settled(self, record: Record) -> bytes:
        """Nothing changes, but the version it is based on is still on its way to the disk."""
        await self.store.settled()
        return record.data

    def _next(self, kind: Kind, key: Key, old: Object, new: Object, part: str) -> Object:
        """The next version: what the caller may change from `new`, the rest from `old`; filled in, judged."""
        check_type(kind, new)
        metadata, before = new["metadata"], old["metadata"]
        if metadata.get("name", key[1]) != key[1]:
            told = (
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({key[1]})"
            )
            raise bad_request(told)
        check_namespace(kind, key[0], metadata)
        if metadata.get("uid", before["uid"]) != before["uid"]:
            raise conflict(kind.resource, key[1], wrong_uid(metadata["uid"], before["uid"]))
        if part:
            return with_part(kind, old, new, part)
        metadata["name"] = key[1]
        metadata["resourceVersion"] = before["resourceVersion"]
        for name in ("managedFields", "selfLink", *SYSTEM_FIELDS):
            metadata.pop(name, None)
            if name in before:
                metadata[name] = before[name]
        if kind.status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        judge(kind, new, old)
        if kind.spec and body(new) != body(old):
            metadata["generation"] = before.get("generation", 1) + 1
        return new

    # -- delete

    async def delete(self, kind: Kind, key: Key, options: DeleteOptions) -> bytes:
        """Delete an object, or begin to. Its state, or a Status when it is gone."""
        record = self.store.latest(kind.id, key)
        if record is None:
            await self.store.settled()
            raise not_found(kind.resource, key[1])
        obj = record.decode()
        metadata = obj["metadata"]
        if options.uid and options.uid != metadata["uid"]:
            raise conflict(kind.resource, key[1], wrong_uid(options.uid, metadata["uid"]))
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            raise conflict(kind.resource, key[1])
        lifecycle.begin(kind, obj, options)
        if not options.dry_run and options.propagation == "Orphan":
            self._orphan(key[0], metadata["uid"])
        if is_over(kind, obj):
            data = orjson.dumps(obj) if options.dry_run else await self._remove(kind, key, obj)
            if kind.resource in RETURNED:
                return data
            return orjson.dumps(success(kind.resource, key[1], metadata["uid"]))
        if options.dry_run or obj == record.decode():
            return orjson.dumps(obj)
        return await self._durable(self.store.put(kind.id, key, obj))

    async def _remove(self, kind: Kind, key: Key, obj: Object) -> bytes:
        future = self.store.delete(kind.id, key, obj)
        if kind.resource is SERVICES:
            self.addresses.release(obj, None)
        return await self._durable(future)

    def _orphan(self, namespace: str, uid: str) -> None:
        """Strike an owner from its dependents, so that they outlive it."""
        needle = uid.encode()
        for kind in KINDS:
            for record in self.store.items(kind.id, namespace):
                if needle not in record.data:
                    continue
                obj = record.decode()
                owners = obj["metadata"].get("ownerReferences") or []
                kept = [owner for owner in owners if owner.get("uid") != uid]
                if kept != owners:
                    obj["metadata"]["ownerReferences"] = kept
                    self.store.put(kind.id, record.key, obj)

    # -- Services

    def _assign(self, kind: Kind, obj: Object, old: Object | None) -> Held:
        if kind.resource is not SERVICES:
            return set()
        return self.addresses.assign(obj, old)

    def _unassign(self, kind: Kind, obj: Object, taken: Held) -> None:
        if kind.resource is SERVICES:
            self.addresses.undo(obj, taken)

    async def _durable(self, future: asyncio.Future[Record]) -> bytes:
        try:
            return (await future).data
        except StorageFailed as error:
            raise internal(f"the write could not be stored: {error}") from None
