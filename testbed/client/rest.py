"""Requests and watches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from testbed.client.errors import Unreachable, error_of
from testbed.client.kubeconfig import Access, load
from testbed.model.resources import Resource

Object = dict[str, Any]

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
REQUEST_TIMEOUT = 30.0
"""Seconds for a whole request that is not a watch."""
WATCH_SECONDS = 300
"""How long the server is asked to keep a watch open; a watch that says nothing for longer is dead."""


@dataclass(frozen=True)
class Listing:
    """A list of objects as of one revision of the store."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True)
class Event:
    """What a watch reports. `type`: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class Client:
    """Use as `async with Client.from_kubeconfig(path) as client`. Raises ApiError and its subclasses."""

    def __init__(self, access: Access, user_agent: str = "testbed") -> None:
        self.access = access
        self._headers = {"Accept": "application/json", "User-Agent": user_agent}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(cls, path: str | Path, user_agent: str = "testbed") -> Client:
        """A client for the current context of a kubeconfig. Raises UsageError."""
        return cls(load(path), user_agent)

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(ssl=self.access.tls or True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=self._headers, auto_decompress=True, trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request to any path. The decoded JSON, or the text where the answer is not JSON."""
        assert self._session, "use the client in `async with`"
        url = self.access.server + path
        headers = {} if body is None else {"Content-Type": content_type}
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        try:
            async with self._session.request(
                method, url, params=query, data=data, headers=headers, timeout=timeout
            ) as response:
                content = await response.read()
                if response.status >= 400:
                    raise error_of(_status(response.status, content))
                return (
                    orjson.loads(content) if response.content_type == "application/json" else content.decode()
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {url}: {str(error) or type(error).__name__}") from None

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """All objects of a kind, or of a namespace, each with the apiVersion and kind lists leave out."""
        query = _selectors(label_selector, field_selector)
        answer = await self.request("GET", resource.path(namespace), query=query)
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        items = [{**named, **item} for item in answer.get("items") or ()]
        return Listing(items, str(answer["metadata"]["resourceVersion"]))

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return dict(await self.request("GET", resource.path(namespace, name)))

    async def create(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        """Create an object in the namespace its metadata names; or POST to a subresource (`binding`)."""
        metadata = obj["metadata"]
        name = metadata["name"] if subresource else None
        path = resource.path(metadata.get("namespace"), name, subresource)
        return dict(await self.request("POST", path, obj))

    async def update(self, resource: Resource, obj: Object, *, subresource: str | None = None) -> Object:
        """Replace an object. Raises Conflict when its resourceVersion is not the latest."""
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return dict(await self.request("PUT", path, obj))

    async def update_status(self, resource: Resource, obj: Object) -> Object:
        """Replace an object's status, and nothing else of it."""
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        patch: Any,
        *,
        subresource: str | None = None,
        kind: str = "merge",
    ) -> Object:
        """Patch an object. `kind`: "merge" (RFC 7386), "json" (RFC 6902) or "strategic"."""
        path = resource.path(namespace, name, subresource)
        return dict(await self.request("PATCH", path, patch, content_type=PATCH_TYPES[kind]))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period: int | None = None,
        propagation: str | None = None,
        uid: str | None = None,
    ) -> Object:
        """Delete an object. `grace_period` in seconds, 0 at once; `uid`: only if it is still that object."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return dict(await self.request("DELETE", resource.path(namespace, name), options))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
    ) -> AsyncIterator[Event]:
        """Changes after `resource_version`, until the server ends the watch. Raises Gone if it is too old."""
        assert self._session, "use the client in `async with`"
        query = _selectors(label_selector, field_selector)
        query |= {"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": str(WATCH_SECONDS)}
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        url = self.access.server + resource.path(namespace)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT, sock_read=WATCH_SECONDS + 30
        )
        try:
            async with self._session.get(url, params=query, timeout=timeout) as response:
                if response.status >= 400:
                    raise error_of(_status(response.status, await response.read()))
                async for line in _lines(response.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(event["object"])
                    yield Event(event["type"], event["object"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"watch {url}: {str(error) or type(error).__name__}") from None


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (StreamReader.readline has a limit, an object may be over a megabyte)."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in pairs.items() if value}


def _status(code: int, content: bytes) -> Object:
    """The Status in an error answer; one made up where a proxy or a crash left something else."""
    try:
        status = orjson.loads(content)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return {"code": code, **status}
    return {"code": code, "message": content.decode(errors="replace").strip() or f"HTTP {code}"}
