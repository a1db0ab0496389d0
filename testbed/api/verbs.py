"""What each verb does with an understood request. Answers are an HTTP code and the JSON to send."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from testbed.api import evictions, fields, managed, patch, table, twins
from testbed.api.auth import User
from testbed.api.calls import Call, decode, delete_options, eviction_options, selection
from testbed.api.discovery import SUBRESOURCES
from testbed.api.lifecycle import Change, bind
from testbed.api.objects import Admit, Objects, Stamp
from testbed.api.registry import Kind
from testbed.api.status import (
    StatusError,
    bad_request,
    expired,
    method_not_allowed,
    no_such_path,
    unsupported_media_type,
)
from testbed.api.store import Record
from testbed.model.resources import Resource

Object = dict[str, Any]
Answer = tuple[int, bytes]

_DONE = orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
PAGE_LIFETIME = 300.0
"""Seconds for which the rest of a list that was read in part is kept."""
MOST_PAGES = 256
_APPLY = "application/apply-patch+yaml"
_PATCHES: dict[str, Callable[[Call, Object, Any], Any]] = {
    "application/json-patch+json": lambda call, obj, given: patch.json_patch(obj, given),
    "application/merge-patch+json": lambda call, obj, given: patch.merge(obj, given),
    "application/strategic-merge-patch+json": lambda call, obj, given: patch.strategic(call.type, obj, given),
    _APPLY: lambda call, obj, given: patch.apply(call.type, obj, given),
}


class Verbs:
    """The verbs over one store. `handle` raises StatusError.

    `admit` is shown who writes what, before it is written; it may raise StatusError.
    """

    def __init__(
        self, objects: Objects, admit: Callable[[User, Resource, Object], None] = lambda *asked: None
    ) -> None:
        self.objects, self.store, self._admit = objects, objects.store, admit
        self._pages: dict[str, tuple[float, int, list[Record]]] = {}
        self._by_verb: dict[str, Callable[[Call], Awaitable[Answer]]] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def handle(self, call: Call) -> Answer:
        target = call.target
        if not target.subresource and call.verb not in target.kind.verbs:
            raise method_not_allowed(target.kind.unwritten)
        if target.subresource:
            if target.subresource not in target.kind.parts:
                raise no_such_path()
            if call.verb not in SUBRESOURCES[target.subresource][1]:
                raise method_not_allowed()
        code, data = await self._by_verb[call.verb](call)
        return code, self._formed(call, data) if call.form.convert and code < 300 else data

    def _formed(self, call: Call, data: bytes) -> bytes:
        """The answer as Table or metadata only; lists are made so in `_list`."""
        if call.verb not in ("get", "create", "update", "patch"):
            return data
        obj: Object = orjson.loads(data)
        if call.form.convert == "PartialObjectMetadata":
            return orjson.dumps(table.partial(obj))
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return orjson.dumps(
            table.table(call.target.kind, [obj], metadata, call.query.get("includeObject", ""))
        )

    # -- reading

    async def _get(self, call: Call) -> Answer:
        record = self.objects.find(call.target.kind, call.target.key)
        if call.target.subresource == "scale":
            return 200, orjson.dumps(_scale_of(call.target.kind, record.decode()))
        return 200, twins.shown(call.target.kind, record.data)

    async def _list(self, call: Call) -> Answer:
        kind, store = call.target.kind, self.store
        if call.query.get("continue"):
            revision, records = self._continued(call.query["continue"])
        else:
            wanted = selection(call)
            self._check_version(call)
            records = store.items(kind.id, wanted.namespace)
            if wanted.labels or wanted.fields:
                records = [record for record in records if wanted.matches(record)]
            revision = store.revision
        metadata: Object = {"resourceVersion": str(revision)}
        limit = _number(call, "limit")
        if limit and len(records) > limit:
            records, rest = records[:limit], records[limit:]
            metadata |= {"continue": self._keep(revision, rest), "remainingItemCount": len(rest)}
        return 200, _list_document(call, records, metadata)

    def _check_version(self, call: Call) -> None:
        """`resourceVersion` of a list: what is served is the latest, so only Exact can be asked too old."""
        version = _number(call, "resourceVersion")
        if version > self.store.revision:
            told = f"Too large resource version: {version}, current: {self.store.revision}"
            raise StatusError(504, "Timeout", told, {"retryAfterSeconds": 1}, retry_after=1)
        exact = call.query.get("resourceVersionMatch") == "Exact"
        if exact and version and version != self.store.revision:
            raise expired("The resourceVersion for the provided list is too old.")

    def _keep(self, revision: int, rest: list[Record]) -> str:
        """Keep the rest of a list as it is now, for the token returned."""
        now = time.monotonic()
        for token, (kept, _, _) in list(self._pages.items()):
            if now - kept > PAGE_LIFETIME or len(self._pages) >= MOST_PAGES:
                del self._pages[token]
        token = secrets.token_urlsafe(24)
        self._pages[token] = (now, revision, rest)
        return token

    def _continued(self, token: str) -> tuple[int, list[Record]]:
        if token not in self._pages:
            told = "The provided continue parameter is too old to display a consistent list result."
            raise expired(f"{told} You must start a new list without the continue parameter.")
        _, revision, rest = self._pages[token]
        return revision, rest

    # -- writing

    async def _create(self, call: Call) -> Answer:
        target = call.target
        obj = twins.inward(target.kind, fields.check(call, call.document()))
        if target.subresource == "binding":
            await self.objects.update(
                target.kind, target.key, bind(obj), part="binding", dry_run=call.dry_run
            )
            return 201, _DONE
        if target.subresource == "eviction":
            await evictions.evict(self.objects, target.key, eviction_options(call, obj))
            return 201, _DONE
        if target.name:
            raise method_not_allowed()
        namespace = target.namespace
        if target.kind.resource.namespaced and not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        if target.kind.attributed:
            given = obj.get("spec") if isinstance(obj.get("spec"), dict) else {}
            obj["spec"] = given | {"username": call.user.name, "groups": sorted(call.user.groups)}
        stored = twins.stored(target.kind)
        data = await self.objects.create(
            stored, namespace, obj, dry_run=call.dry_run, admit=self._admitted(call)
        )
        return 201, twins.shown(target.kind, data)

    async def _update(self, call: Call) -> Answer:
        if not call.target.name:
            raise method_not_allowed()
        obj = fields.check(call, call.document())
        return await self._change(call, lambda old: obj)

    async def _patch(self, call: Call) -> Answer:
        if not call.target.name:
            raise method_not_allowed()
        apply = _PATCHES.get(call.content_type)
        if apply is None:
            raise unsupported_media_type(call.content_type, list(_PATCHES))
        given = decode(call.body, call.content_type)
        if call.content_type == _APPLY:
            return await self._apply(call, given)
        return await self._change(call, fields.checked(call, lambda old: apply(call, old, given)))

    async def _apply(self, call: Call, given: Any) -> Answer:
        """Server-side apply: create what is not there, else merge, conflicts and all."""
        kind, key = twins.stored(call.target.kind), call.target.key
        apply = managed.applied(call, given)
        given["metadata"].setdefault("name", key[1])
        if not self.store.latest(kind.id, key):
            stored = twins.inward(call.target.kind, given)
            data = await self.objects.create(
                kind,
                key[0],
                stored,
                dry_run=call.dry_run,
                stamp=apply.stamp_first,
                admit=self._admitted(call),
            )
            return 201, twins.shown(call.target.kind, data)

        def change(old: Object) -> Object:
            pristine: Object = orjson.loads(orjson.dumps(old))
            merged: Object = patch.apply(call.type, old, given)
            return apply.settle(pristine, merged)

        return await self._change(call, change, apply.stamp)

    async def _change(self, call: Call, change: Change, stamp: Stamp | None = None) -> Answer:
        kind, key, part = call.target.kind, call.target.key, call.target.subresource
        stamp = stamp or functools.partial(managed.track, call.manager)
        if part == "scale":
            data = await self.objects.update(
                kind, key, _scaled(kind, change), dry_run=call.dry_run, stamp=stamp
            )
            return 200, orjson.dumps(_scale_of(kind, orjson.loads(data)))
        if kind.renames:
            inner = change
            change = lambda old: twins.inward(kind, inner(twins.outward(kind, old)))  # noqa: E731
        data = await self.objects.update(
            twins.stored(kind),
            key,
            change,
            part=part,
            dry_run=call.dry_run,
            stamp=stamp,
            admit=self._admitted(call),
        )
        return 200, twins.shown(kind, data)

    def _admitted(self, call: Call) -> Admit:
        return functools.partial(self._admit, call.user, twins.stored(call.target.kind).resource)

    async def _delete(self, call: Call) -> Answer:
        return 200, await self.objects.delete(
            twins.stored(call.target.kind), call.target.key, delete_options(call)
        )

    async def _delete_collection(self, call: Call) -> Answer:
        wanted, options = selection(call), delete_options(call)
        kind = twins.stored(call.target.kind)
        records = [each for each in self.store.items(kind.id, wanted.namespace) if wanted.matches(each)]
        await asyncio.gather(
            *(self.objects.delete(kind, each.key, options) for each in records), return_exceptions=True
        )
        return 200, _list_document(call, records, {"resourceVersion": str(self.store.revision)})


def _number(call: Call, name: str) -> int:
    text = call.query.get(name) or "0"
    if not text.isdecimal():
        raise bad_request(f'{name}: Invalid value: "{text}": must be a number')
    return int(text)


def _list_document(call: Call, records: Sequence[Record], metadata: Object) -> bytes:
    kind, form = call.target.kind, call.form
    if form.convert == "Table":
        objects = [record.decode() for record in records]
        include = call.query.get("includeObject", "Metadata")
        return orjson.dumps(table.table(kind, objects, metadata, include))
    if form.convert == "PartialObjectMetadata":
        return orjson.dumps(table.partial_list([record.decode() for record in records], metadata))
    head = orjson.dumps(
        {"kind": f"{kind.resource.kind}List", "apiVersion": kind.resource.api_version, "metadata": metadata}
    )
    return b"".join(
        (head[:-1], b',"items":[', b",".join([twins.shown(kind, record.data) for record in records]), b"]}")
    )


# -- scale


def _scale_of(kind: Kind, obj: Object) -> Object:
    """The Scale of a workload (autoscaling/v1)."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    selector = spec.get("selector") or {}
    labels = selector.get("matchLabels", {}) if kind.resource.group else selector
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def _scaled(kind: Kind, change: Change) -> Change:
    """A change of the Scale, as a change of its workload."""

    def apply(obj: Object) -> Object:
        scale = change(_scale_of(kind, obj))
        if not all(isinstance(scale.get(part) or {}, dict) for part in ("metadata", "spec")):
            raise bad_request("metadata and spec of a Scale must be objects")
        obj["spec"]["replicas"] = (scale.get("spec") or {}).get("replicas", 0)
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version:
            obj["metadata"]["resourceVersion"] = version
        return obj

    return apply
