"""Client and informer against a scripted server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from testbed.client import ApiError, Client, Conflict, Gone, Informer, NotFound, Unreachable
from testbed.client.kubeconfig import Access
from testbed.model.resources import SERVICES

Object = dict[str, Any]
DEADLINE = 60.0


def service(name: str, version: int, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}, "spec": spec}


@asynccontextmanager
async def serving(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Client]:
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with Client(Access(f"http://{host}:{port}", None)) as client:
            yield client
    finally:
        await runner.cleanup()


class Script:
    """Lists and watches as scripted: one entry per request; a watch is a list of events, then its end."""

    def __init__(self, lists: list[tuple[int, list[Object]]], watches: list[list[Object]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if "watch" not in request.query:
            version, items = self.lists.pop(0)
            body = {"kind": "ServiceList", "metadata": {"resourceVersion": str(version)}, "items": items}
            return web.json_response(body)
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.sleep(DEADLINE)
        for event in self.watches.pop(0):
            text = json.dumps(event).encode() + b"\n"
            await response.write(text[:7])
            await response.write(text[7:])
        return response


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.005)


def test_an_informer_follows_what_happens() -> None:
    big = service("b", 7, externalName="x" * 300_000)
    script = Script(
        [(5, [service("a", 3), service("gone", 4)]), (20, [service("a", 15), service("c", 16)])],
        [
            [
                {"type": "MODIFIED", "object": service("a", 6)},
                {"type": "ADDED", "object": big},
                {"type": "DELETED", "object": service("gone", 8)},
                {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
            ],
            [
                {
                    "type": "ERROR",
                    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"},
                }
            ],
        ],
    )
    told: list[tuple[str | None, str | None]] = []

    def short(obj: Object | None) -> str | None:
        return obj and f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"

    async def main() -> None:
        async with serving(script) as client:
            informer = Informer(client, SERVICES)
            informer.subscribe(lambda old, new: told.append((short(old), short(new))))
            task = asyncio.create_task(informer.run())
            await until(lambda: len(script.asked) == 3)
            assert sorted(informer.store) == ["default/a", "default/c"]
            late: list[object] = []
            informer.subscribe(lambda old, new: late.append((old, short(new))))
            assert late == [(None, "a@15"), (None, "c@16")]
            task.cancel()

    asyncio.run(main())
    assert script.asked == ["5", "9", "20"]
    assert told == [
        (None, "a@3"),
        (None, "gone@4"),
        ("a@3", "a@6"),
        (None, "b@7"),
        ("gone@4", None),
        ("b@7", None),
        ("a@6", "a@15"),
        (None, "c@16"),
    ]


def test_a_subscriber_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []

    def failing(old: object, new: object) -> None:
        raise ValueError("a fault")

    async def main() -> None:
        async with serving(Script([(5, [service("a", 3)])], [])) as client:
            informer = Informer(client, SERVICES)
            informer.subscribe(failing)
            informer.subscribe(lambda old, new: told.append(new))
            task = asyncio.create_task(informer.run())
            await asyncio.wait_for(informer.synced.wait(), DEADLINE)
            task.cancel()

    asyncio.run(main())
    assert len(told) == 1
    assert "a subscriber failed" in caplog.text


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (404, {"kind": "Status", "reason": "NotFound", "message": "m"}, NotFound),
        (409, {"kind": "Status", "reason": "Conflict", "message": "m"}, Conflict),
        (410, {"kind": "Status", "reason": "Expired", "message": "m"}, Gone),
        (403, {"kind": "Status", "reason": "Forbidden", "message": "m"}, ApiError),
        (502, "m", ApiError),
    ],
)
def test_refusals_are_exceptions(code: int, body: Any, kind: type[ApiError]) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=code, text=text)

    async def main() -> None:
        async with serving(refuse) as client:
            with pytest.raises(kind, match="m") as refusal:
                await client.get(SERVICES, "x", "default")
            assert type(refusal.value) is kind
            assert refusal.value.code == code

    asyncio.run(main())


def test_no_server_is_unreachable() -> None:
    async def main() -> None:
        async with Client(Access("http://127.0.0.1:1", None)) as client:
            with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
                await client.list(SERVICES)

    asyncio.run(main())
