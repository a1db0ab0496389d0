"""The ConfigMaps and Secrets that a Pod names, read from the API at the moment they are needed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.client import Client, NotFound
from testbed.errors import TestbedError
from testbed.model.resources import CONFIG_MAPS, SECRETS, Resource

Object = dict[str, Any]

FROM_ENVIRONMENT = (("configMapRef", CONFIG_MAPS), ("secretRef", SECRETS))
FROM_KEY = (("configMapKeyRef", CONFIG_MAPS), ("secretKeyRef", SECRETS))


class MissingReference(TestbedError):
    """A ConfigMap or Secret, or a key of it, that a Pod needs and the API does not have."""


@dataclass(frozen=True)
class Values:
    """What a container's environment takes from elsewhere: `envFrom`, and `valueFrom` by variable."""

    whole: Mapping[str, str] = field(default_factory=dict)
    single: Mapping[str, str] = field(default_factory=dict)


class References:
    """The contents of a namespace's ConfigMaps and Secrets. Each is read once: make a new one each time."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._held: dict[tuple[Resource, str], Mapping[str, bytes] | None] = {}

    async def contents(self, resource: Resource, name: str, optional: bool) -> Mapping[str, bytes]:
        """Key -> content; nothing where an optional one is missing. Raises MissingReference, ApiError."""
        place = (resource, name)
        if place not in self._held:
            try:
                self._held[place] = decode(await self._client.get(resource, name, self._namespace))
            except NotFound:
                self._held[place] = None
        held = self._held[place]
        if held is None and not optional:
            raise MissingReference(f'{resource.singular} "{name}" not found')
        return held or {}

    async def values(self, container: Object) -> Values:
        """What the container's `env` and `envFrom` refer to. Raises MissingReference, ApiError."""
        whole: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            for name, resource in FROM_ENVIRONMENT:
                if name in source:
                    reference = source[name]
                    found = await self.contents(resource, reference["name"], _optional(reference))
                    prefix = source.get("prefix") or ""
                    whole |= {prefix + key: _text(content) for key, content in found.items()}
        single = {}
        for entry in container.get("env") or ():
            for name, resource in FROM_KEY:
                if name in (entry.get("valueFrom") or {}):
                    value = await self._key(resource, entry["valueFrom"][name])
                    if value is not None:
                        single[entry["name"]] = value
        return Values(whole, single)

    async def _key(self, resource: Resource, reference: Object) -> str | None:
        found = await self.contents(resource, reference["name"], _optional(reference))
        key = reference["key"]
        if key in found:
            return _text(found[key])
        if _optional(reference):
            return None
        place = f"{self._namespace}/{reference['name']}"
        raise MissingReference(f"couldn't find key {key} in {resource.kind} {place}")


def decode(obj: Object) -> dict[str, bytes]:
    """The contents of a ConfigMap or a Secret as bytes."""
    plain, encoded = ("", "data") if obj["kind"] == "Secret" else ("data", "binaryData")
    found = {key: str(value).encode() for key, value in (obj.get(plain) or {}).items()}
    return found | {key: base64.b64decode(value) for key, value in (obj.get(encoded) or {}).items()}


def _optional(reference: Object) -> bool:
    return bool(reference.get("optional"))


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")
