"""Health check ports: which Services have one, how many endpoints count, and what a load balancer reads."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import Any

import aiohttp
import pytest
from test_tracker import HERE, THERE, endpoint, piece, service

from testbed.proxy.service_health import LocalEndpoints, ServiceHealth
from testbed.proxy.tracker import Tracker

LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def get(port: int, path: str = "/") -> tuple[int, Any, str]:
    """Status, body, weight."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.content_type == "application/json"
        return (
            answer.status,
            json.loads(await answer.text()),
            answer.headers["X-Load-Balancing-Endpoint-Weight"],
        )


def test_ready_endpoints_of_this_node_count_once() -> None:
    tracker = Tracker(HERE)
    ports = [{"name": name, "port": port} for name, port in (("http", 80), ("https", 443))]
    tracker.service(None, service(**LOCAL, ports=ports))
    offers = [
        endpoint("10.0.0.1", HERE),
        endpoint("10.0.0.2", HERE, ready=False, serving=True, terminating=True),
        endpoint("10.0.0.3", THERE),
    ]
    slice_ports = [{"name": "http", "port": 8080}, {"name": "https", "port": 8443}]
    tracker.endpoint_slice(None, piece(*offers, ports=slice_ports))
    tracker.endpoint_slice(None, piece(*offers[:1], name="web-2"))
    assert tracker.health_checks() == {32000: LocalEndpoints("default", "web", 1)}


@pytest.mark.parametrize(
    "other",
    [{"type": "NodePort"}, {"externalTrafficPolicy": "Cluster"}, {"healthCheckNodePort": 0}],
)
def test_other_services_have_no_check(other: dict[str, Any]) -> None:
    tracker = Tracker(HERE)
    tracker.service(None, service(**{**LOCAL, **other}))
    assert tracker.health_checks() == {}


@pytest.mark.feature("B3", "B13")
def test_what_a_load_balancer_reads() -> None:
    async def body() -> None:
        healthy = True
        port = free_port()
        checks = ServiceHealth(lambda: healthy)
        two, none = LocalEndpoints("default", "web", 2), LocalEndpoints("default", "web", 0)
        words = {"service": {"namespace": "default", "name": "web"}}

        await checks.update({port: two}, ["127.0.0.1"])
        for path in ("/", "/healthz"):
            assert await get(port, path) == (
                200,
                {**words, "localEndpoints": 2, "serviceProxyHealthy": True},
                "2",
            )
        await checks.update({port: none}, ["127.0.0.1"])
        assert await get(port) == (503, {**words, "localEndpoints": 0, "serviceProxyHealthy": True}, "0")
        await checks.update({port: two}, ["127.0.0.1"])
        healthy = False
        assert await get(port) == (503, {**words, "localEndpoints": 2, "serviceProxyHealthy": False}, "2")
        await checks.update({}, ["127.0.0.1"])
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(port)
        await checks.close()

    asyncio.run(body())


def test_a_port_that_is_taken_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def body() -> None:
        checks = ServiceHealth(lambda: True)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
            wanted = {port: LocalEndpoints("default", "web", 1)}
            await checks.update(wanted, ["127.0.0.1"])
            await checks.update(wanted, ["127.0.0.1"])
        await checks.update(wanted, ["127.0.0.1"])
        assert (await get(port))[0] == 200
        await checks.close()

    asyncio.run(body())
    (line,) = caplog.messages
    assert line.startswith("Failed to start healthcheck of default/web on port ")
