"""The server as a whole, over TLS: what it refuses and how, streams, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from testbed.client import ApiError, Client, Informer
from testbed.model.resources import CONFIG_MAPS, NODES, PODS, SERVICES

DEADLINE = 60.0
Scenario = Callable[[Client], Awaitable[None]]
MAPS = CONFIG_MAPS.path("default")


def config_map(name: str, value: str = "", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "data": {"value": value},
    }


def test_every_watcher_sees_every_change_in_order(serve: Any) -> None:
    watchers, changes = 20, 100

    async def scenario(client: Client) -> None:
        start = (await client.list(CONFIG_MAPS)).resource_version
        ready = asyncio.Barrier(watchers + 1)

        async def follow() -> list[str]:
            seen: list[str] = []
            await ready.wait()
            async for event in client.watch(CONFIG_MAPS, resource_version=start):
                seen.append(event.object["metadata"]["name"])
                if len(seen) == changes:
                    break
            return seen

        tasks = [asyncio.create_task(follow()) for _ in range(watchers)]
        await ready.wait()
        await asyncio.gather(*(client.create(CONFIG_MAPS, config_map(f"c{i}")) for i in range(changes)))
        first, *others = await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)
        assert sorted(first) == sorted(f"c{i}" for i in range(changes))
        assert all(other == first for other in others)

    serve(scenario)


def test_a_list_in_pieces_is_of_one_revision(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        for i in range(5):
            await client.create(CONFIG_MAPS, config_map(f"c{i}", "old"))
        page = await client.request("GET", MAPS, query={"limit": "2"})
        first = page["metadata"]["resourceVersion"]
        assert page["metadata"]["remainingItemCount"] == 3
        found = page["items"]
        for i in range(5):
            await client.patch(CONFIG_MAPS, f"c{i}", "default", {"data": {"value": "new"}})
        await client.delete(CONFIG_MAPS, "c4", "default")
        while token := page["metadata"].get("continue"):
            page = await client.request("GET", MAPS, query={"limit": "2", "continue": token})
            assert page["metadata"]["resourceVersion"] == first
            found += page["items"]
        assert [(each["metadata"]["name"], each["data"]["value"]) for each in found] == [
            (f"c{i}", "old") for i in range(5)
        ]

    serve(scenario)


def test_a_collection_is_deleted_by_selector(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        for i in range(6):
            await client.create(CONFIG_MAPS, config_map(f"c{i}", odd=str(i % 2)))
        await client.request("DELETE", MAPS, query={"labelSelector": "odd=1"})
        left = (await client.list(CONFIG_MAPS)).items
        assert [each["metadata"]["name"] for each in left] == ["c0", "c2", "c4"]

    serve(scenario)


def test_the_scale_of_a_workload(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        await client.request("POST", path, {"metadata": {"name": "d"}, "spec": spec})
        scale = await client.request("GET", f"{path}/d/scale")
        assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == (
            "Scale",
            {"replicas": 1},
            "a=b",
        )
        answer = await client.request("PUT", f"{path}/d/scale", scale | {"spec": {"replicas": 4}})
        assert answer["spec"] == {"replicas": 4}
        with pytest.raises(ApiError, match="modified"):
            await client.request("PUT", f"{path}/d/scale", scale | {"spec": {"replicas": 5}})

    serve(scenario)


def test_an_informer_keeps_up_with_a_storm(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        informer = Informer(client, CONFIG_MAPS, label_selector="keep=yes")
        task = asyncio.create_task(informer.run())

        async def writer(name: str) -> None:
            await client.create(CONFIG_MAPS, config_map(name, "0"))
            for value in range(20):
                keep = {"keep": "yes" if value % 3 else "no"}
                await client.patch(
                    CONFIG_MAPS,
                    name,
                    "default",
                    {"metadata": {"labels": keep}, "data": {"value": str(value)}},
                )

        await asyncio.gather(*(writer(f"c{i}") for i in range(10)))
        last = (await client.list(CONFIG_MAPS, label_selector="keep=yes")).items
        async with asyncio.timeout(DEADLINE):
            while {each["data"]["value"] for each in informer.store.values()} != {"19"} or len(
                informer.store
            ) < 10:
                await asyncio.sleep(0.01)
        assert sorted(informer.store) == sorted(f"default/{each['metadata']['name']}" for each in last)
        task.cancel()

    serve(scenario)


def test_open_watches_end_with_the_server(serve: Any) -> None:
    ended: list[asyncio.Task[None]] = []

    async def scenario(client: Client) -> None:
        begun = asyncio.Event()

        async def follow() -> None:
            assert client._session
            url = client.access.server + MAPS
            async with client._session.get(url, params={"watch": "1", "resourceVersion": "1"}) as answer:
                assert answer.status == 200
                begun.set()
                assert await answer.read() == b""

        ended.append(asyncio.create_task(follow()))
        await asyncio.wait_for(begun.wait(), DEADLINE)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(ended[0], DEADLINE)

    serve(scenario)
    assert ended[0].done()


@asynccontextmanager
async def kubelet(directory: Path) -> AsyncIterator[int]:
    """A kubelet that tells what it was asked for."""

    async def answer(request: web.Request) -> web.Response:
        certificate = request.transport and request.transport.get_extra_info("peercert")
        if not certificate:
            return web.Response(status=401)
        if "previous" in request.query:
            return web.Response(status=400, text="previous terminated container not found")
        return web.Response(text=f"{request.path} {request.query_string}\n")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.load_verify_locations(directory / "pki" / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def pod_on_a_node(client: Client, port: int) -> None:
    """A Pod `p` of containers `one` and `two`, on a node whose kubelet is here."""
    containers = [{"name": "one", "image": "i"}, {"name": "two", "image": "i"}]
    spec = {"nodeName": "n", "containers": containers}
    await client.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    await client.create(NODES, {"metadata": {"name": "n"}, "status": status})


def test_logs_come_from_the_kubelet(serve: Any, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        path = PODS.path("default", "p", "log")
        async with kubelet(tmp_path) as port:
            await pod_on_a_node(client, port)
            query = {"container": "two", "tailLines": "5"}
            assert (
                await client.request("GET", path, query=query) == "/containerLogs/default/p/two tailLines=5\n"
            )
            with pytest.raises(ApiError, match="a container name must be specified"):
                await client.request("GET", path)
            with pytest.raises(ApiError, match="container none is not valid for pod p"):
                await client.request("GET", path, query={"container": "none"})
            with pytest.raises(ApiError, match="previous terminated container not found"):
                await client.request("GET", path, query=query | {"previous": "true"})
        with pytest.raises(ApiError, match="Internal error occurred: Get") as refusal:
            await client.request("GET", path, query=query)
        assert refusal.value.code == 500

    serve(scenario)


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        url = client.access.server + MAPS
        connector = aiohttp.TCPConnector(ssl=client.access.tls or True)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(5):
                answer = await session.get(url, params={"watch": "1"})
                answer.close()
        service = {"metadata": {"name": "s", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
        assert (await client.create(SERVICES, service))["spec"]["clusterIP"]

    serve(scenario)


@pytest.mark.feature("C5")
def test_who_does_not_read_his_watch_is_cut_off_and_others_see_all(serve: Any) -> None:
    """More than may wait for one watch, and than the sockets on the way take."""
    text, changes = "x" * 1_000_000, 60

    async def scenario(client: Client) -> None:
        host, _, port = client.access.server.removeprefix("https://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=client.access.tls, limit=1024)
        writer.write(f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n")
        made = await client.create(CONFIG_MAPS, config_map("big"))
        version, seen = made["metadata"]["resourceVersion"], []

        async def follow() -> None:
            async for event in client.watch(CONFIG_MAPS, resource_version=version):
                seen.append(event.object["data"]["value"][:2])
                if len(seen) == changes:
                    return

        task = asyncio.create_task(follow())
        for number in range(changes):
            await client.patch(CONFIG_MAPS, "big", "default", {"data": {"value": f"{number:02}{text}"}})
        await asyncio.wait_for(task, DEADLINE)
        assert seen == [f"{number:02}" for number in range(changes)]
        taken = 0
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while taken < changes * len(text):
                taken += len(await reader.readexactly(1 << 16))
        assert taken < changes * len(text)
        writer.transport.abort()

    serve(scenario)


@pytest.mark.feature("C5")
def test_one_watch_too_many_is_told_when_to_come_back(serve: Any) -> None:
    async def scenario(client: Client) -> None:
        assert client._session
        url = client.access.server + MAPS
        async with client._session.get(url, params={"watch": "1"}) as first:
            async with client._session.get(url, params={"watch": "1"}) as second:
                assert (first.status, second.status, second.headers["Retry-After"]) == (200, 429, "1")
                assert (await second.json())["reason"] == "TooManyRequests"
            first.close()

    serve(scenario, most_watches=1)


@pytest.mark.parametrize("what", ["exec", "attach", "portforward"])
def test_a_client_of_bare_spdy_is_told_what_to_use(serve: Any, tmp_path: Path, what: str) -> None:
    async def scenario(client: Client) -> None:
        async with kubelet(tmp_path) as port:
            await pod_on_a_node(client, port)
            url = client.access.server + PODS.path("default", "p", what)
            headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
            assert client._session
            async with client._session.post(url, headers=headers, params={"container": "one"}) as answer:
                status = await answer.json()
                assert (answer.status, status["kind"], status["reason"]) == (400, "Status", "BadRequest")
                assert status["message"].endswith("use kubectl 1.31 or newer")

    serve(scenario)
