"""What benchmarks write through the API: a namespace of their own, Pods until Ready, many Services."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from testbed.bench import objects
from testbed.client import ApiError, Client, NotFound
from testbed.errors import TestbedError
from testbed.lab.fleet_agents import uninterrupted
from testbed.model.resources import ENDPOINT_SLICES, NAMESPACES, PODS, SERVICE_ACCOUNTS, SERVICES, Resource

IN_FLIGHT = 16
"""API requests under way at once."""

DEADLINE = 600.0
"""Seconds that Pods have to become Ready, and a new Service to answer."""

POLL = 0.2


async def write_services(
    kubeconfig: Path,
    indexes: Iterable[int],
    backends: Sequence[tuple[str, str]],
    endpoints: int,
    namespace: str = objects.NAMESPACE,
) -> list[str]:
    """Write a Service and its EndpointSlice for each index; their ClusterIPs. `backends`: (address, node)."""
    async with Client.from_kubeconfig(kubeconfig) as client:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def write(index: int) -> str:
            async with gate:
                name = objects.service_name(index)
                made = await client.create(SERVICES, objects.inside(namespace, objects.service(name)))
                slice_ = objects.slice_(name, objects.shared(backends, index, endpoints))
                await client.create(ENDPOINT_SLICES, objects.inside(namespace, slice_))
                return str(made["spec"]["clusterIP"])

        return await asyncio.gather(*(write(index) for index in indexes))


async def ready_pods(
    client: Client, wanted: Sequence[str], namespace: str = objects.NAMESPACE
) -> dict[str, dict[str, Any]]:
    """All Pods of a namespace by name, once those that are `wanted` are Ready. Raises TestbedError."""
    end = time.monotonic() + DEADLINE
    while True:
        listing = await client.list(PODS, namespace)
        found = {pod["metadata"]["name"]: pod for pod in listing.items}
        waiting = [name for name in wanted if not _ready(found.get(name, {}))]
        if not waiting:
            return found
        if time.monotonic() > end:
            raise TestbedError(f"Pods not Ready after {DEADLINE:g} s: {', '.join(waiting)}")
        await asyncio.sleep(POLL)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@contextlib.contextmanager
def own_namespace(kubeconfig: Path, name: str) -> Iterator[None]:
    """A namespace of its own in a cluster that has other users. It is deleted at exit, by Ctrl-C too.

    One of that name which a run has left behind goes first.
    """
    try:
        asyncio.run(_fresh(kubeconfig, name))
        yield
    finally:
        with uninterrupted(), contextlib.suppress(TestbedError):
            asyncio.run(_delete(kubeconfig, name))


async def _fresh(kubeconfig: Path, name: str) -> None:
    async with asyncio.timeout(DEADLINE), Client.from_kubeconfig(kubeconfig) as client:
        while await _there(client, NAMESPACES, name):
            with contextlib.suppress(ApiError):  # it is ending already
                await client.delete(NAMESPACES, name)
            await asyncio.sleep(POLL)
        await client.create(NAMESPACES, {"metadata": {"name": name}})
        while not await _there(client, SERVICE_ACCOUNTS, "default", name):  # no Pod is admitted without
            await asyncio.sleep(POLL)


async def _there(client: Client, resource: Resource, name: str, namespace: str | None = None) -> bool:
    try:
        await client.get(resource, name, namespace)
    except NotFound:
        return False
    return True


async def _delete(kubeconfig: Path, name: str) -> None:
    async with Client.from_kubeconfig(kubeconfig) as client:
        await client.delete(NAMESPACES, name)
