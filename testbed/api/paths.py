"""The paths that are not of a kind: discovery, OpenAPI, health, version."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from testbed.api import discovery, openapi, openapi_v2
from testbed.api.status import StatusError, no_such_path
from testbed.api.table import PLAIN, Form, negotiate

Object = dict[str, Any]

HEALTH = ("healthz", "livez", "readyz")


def answer(path: str, accept: str, address: str) -> web.Response:
    """Answer GET `path`. `address`: this server's own, as discovery tells it. Raises StatusError 404."""
    parts = path.strip("/").split("/")
    if parts[0] in HEALTH:
        return web.Response(text="ok")
    if parts == ["openapi", "v2"]:
        return _openapi_v2(accept)
    form = _form(accept)
    if form.convert == "APIGroupDiscovery" and parts in (["api"], ["apis"]):
        return _aggregated(parts[0], form)
    document = _document(parts, address)
    if document is None:
        raise no_such_path()
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _form(accept: str) -> Form:
    """Discovery has JSON only; what else a client would like better does not matter."""
    try:
        return negotiate(accept)
    except StatusError:
        return PLAIN


def _document(parts: list[str], address: str) -> Object | None:
    match parts:
        case ["version"]:
            return discovery.VERSION
        case ["api"]:
            return discovery.core_versions(address)
        case ["apis"]:
            return discovery.groups()
        case ["api", version]:
            return discovery.kinds("", version)
        case ["apis", group]:
            return discovery.group(group)
        case ["apis", group, version]:
            return discovery.kinds(group, version)
        case ["openapi", "v3"]:
            return openapi.root()
        case ["openapi", "v3", "api", version]:
            return openapi.document("", version)
        case ["openapi", "v3", "apis", group, version]:
            return openapi.document(group, version)
        case [""]:
            return {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}
    return None


def _aggregated(root: str, form: Form) -> web.Response:
    names = [""] if root == "api" else [name for name in discovery.group_versions() if name]
    version = form.version or "v2"
    kind = f"application/json;g={discovery.AGGREGATED};v={version};as=APIGroupDiscoveryList"
    body = orjson.dumps(discovery.aggregated(names, version))
    return web.Response(body=body, headers={"Content-Type": kind})


def _openapi_v2(accept: str) -> web.Response:
    """client-go reads this in protobuf only."""
    if "proto-openapi" in accept:
        return web.Response(body=openapi_v2.encoded(), headers={"Content-Type": openapi_v2.CONTENT_TYPE})
    return web.Response(body=orjson.dumps(openapi.v2()), content_type="application/json")
