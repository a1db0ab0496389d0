"""The matrix's scene: Deployments and Services made through the API, and the world that it then tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from testbed.client import Client, NotFound
from testbed.errors import TestbedError
from testbed.model.families import family
from testbed.model.offers import (
    FAR,
    FIRST,
    HOMES,
    OFFERS,
    PATH_MTU,
    PROTOCOLS,
    SCTP,
    SERVERS,
    TARGET_PORT,
    Offer,
    external_address,
    labels_of,
    manifest,
    ready_of,
    written_slice,
)
from testbed.model.oracle import World, addresses_of
from testbed.model.resources import DEPLOYMENTS, ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES
from testbed.model.rows import BYSTANDERS
from testbed.model.topology import ClusterSpec
from testbed.packets.patience import patience

NAMESPACE = "verify"
POD_PORTS = (TARGET_PORT, *BYSTANDERS)
"""The Pods listen on the Services' own ports too: what is sent there must reach them untouched."""

READY_SECONDS = 60.0
POLL = 0.05


def deployments(sctp: bool) -> Iterator[dict[str, Any]]:
    """One Pod each, bound to its node. `sctp`: whether the kernel has it."""
    served = [*product(POD_PORTS, PROTOCOLS), *([(TARGET_PORT, SCTP)] if sctp else [])]
    for name, node in SERVERS.items():
        ports = [{"containerPort": port, "protocol": protocol} for port, protocol in served]
        container: dict[str, Any] = {"name": "echo", "image": "testbed/echo", "ports": ports}
        if name not in HOMES:
            container["readinessProbe"] = {"tcpSocket": {"port": 1}, "initialDelaySeconds": 3600}
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"backend": name}},
                "template": {
                    "metadata": {"labels": labels_of(name)},
                    "spec": {"nodeName": node, "containers": [container]},
                },
            },
        }


def services(sctp: bool, cluster: ClusterSpec, names: Iterable[str] = OFFERS) -> Iterator[dict[str, Any]]:
    """Each over TCP and UDP; `sctp`: whether the kernel has that, too. None that has no IP family there."""
    for name in names:
        if {*OFFERS[name].versions} & {*cluster.families}:
            yield manifest(name, NAMESPACE, sctp, cluster)


def build(
    kubeconfig: Path,
    spec: ClusterSpec,
    sctp: bool,
    meanwhile: Callable[[], object] = lambda: None,
    names: Collection[str] = OFFERS,
) -> World:
    """Make the scene and wait until it is there. Raises TestbedError when it does not come to be.

    `sctp`: whether the nodes' kernels have it. `meanwhile` is called when all is asked for and the cluster
    has its hands full. `names`: the Services.
    """
    return asyncio.run(_build(kubeconfig, spec, sctp, meanwhile, names))


def clear(kubeconfig: Path) -> None:
    """Remove the scene from a cluster that goes on, and return when its Pods are gone."""
    asyncio.run(_clear(kubeconfig))


async def _build(
    kubeconfig: Path,
    spec: ClusterSpec,
    sctp: bool,
    meanwhile: Callable[[], object],
    names: Collection[str],
) -> World:
    offers = {name: OFFERS[name] for name in names}
    async with Client.from_kubeconfig(kubeconfig) as client:
        await client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        for deployment in deployments(sctp):
            await client.create(DEPLOYMENTS, deployment)
        await asyncio.gather(*(client.create(SERVICES, service) for service in services(sctp, spec, names)))
        meanwhile()
        deadline = time.monotonic() + patience(READY_SECONDS)
        while missing := _missing(world := await _world(client, spec), offers):
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"the scene is not complete after {patience(READY_SECONDS):g} s: {missing}; "
                    "the logs of kubelet and controller manager tell why"
                )
            await asyncio.sleep(patience(POLL))
        for name in (name for name, offer in offers.items() if offer.proxied):
            ips = [str(external_address(name, FIRST, version)) for version in spec.families]
            status = {"status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "Proxy"} for ip in ips]}}}
            await client.patch(SERVICES, name, NAMESPACE, status, subresource="status")
        for place, version in enumerate(spec.families):
            addresses = {name: pod_of(world, name)["status"]["podIPs"][place]["ip"] for name in SERVERS}
            for name in (name for name, offer in offers.items() if offer.written):
                piece = written_slice(name, NAMESPACE, addresses, family(version))
                await client.create(ENDPOINT_SLICES, piece)
        return await _world(client, spec)


def set_affinity(kubeconfig: Path, name: str, affinity: str) -> None:
    """Give a Service of the scene another sessionAffinity."""
    asyncio.run(_patch(kubeconfig, name, {"sessionAffinity": affinity}))


def lead(kubeconfig: Path, spec: ClusterSpec, name: str, backend: str) -> World:
    """Lead a Service of the scene to another backend, and wait until its EndpointSlices say so."""
    asyncio.run(_patch(kubeconfig, name, {"selector": {"backend": backend}}))
    return asyncio.run(_led(kubeconfig, spec, name, backend))


async def _clear(kubeconfig: Path) -> None:
    async with Client.from_kubeconfig(kubeconfig) as client:
        with suppress(NotFound):
            await client.delete(NAMESPACES, NAMESPACE)
        deadline = time.monotonic() + patience(READY_SECONDS)
        while any(one["metadata"]["name"] == NAMESPACE for one in (await client.list(NAMESPACES)).items):
            if time.monotonic() > deadline:
                raise TestbedError(f"namespace {NAMESPACE} does not go: kubectl get all -n {NAMESPACE}")
            await asyncio.sleep(patience(POLL))


async def _patch(kubeconfig: Path, name: str, fields: dict[str, Any]) -> None:
    async with Client.from_kubeconfig(kubeconfig) as client:
        await client.patch(SERVICES, name, NAMESPACE, {"spec": fields})


async def _led(kubeconfig: Path, spec: ClusterSpec, name: str, backend: str) -> World:
    async with Client.from_kubeconfig(kubeconfig) as client:
        deadline = time.monotonic() + patience(READY_SECONDS)
        while True:
            world = await _world(client, spec)
            due = addresses_of(pod_of(world, backend)) if backend in HOMES else set()
            if {ip for one in _endpoints(world, name) for ip in one["addresses"]} == due:
                return world
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"Service {name} does not get its endpoints; see the controller manager's log"
                )
            await asyncio.sleep(patience(POLL))


def _endpoints(world: World, name: str) -> list[Any]:
    return [
        endpoint
        for piece in world.slices
        if piece["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
        for endpoint in piece.get("endpoints") or ()
    ]


async def _world(client: Client, spec: ClusterSpec) -> World:
    found = [(await client.list(kind, NAMESPACE)).items for kind in (SERVICES, ENDPOINT_SLICES, PODS)]
    services, slices, pods = (tuple(items) for items in found)
    narrow = [pod for pod in pods if pod["metadata"].get("labels", {}).get("backend") == FAR]
    ends = [one["ip"] for pod in narrow for one in pod.get("status", {}).get("podIPs") or ()]
    return World(spec, services, slices, pods, dict.fromkeys(ends, PATH_MTU))


def _missing(world: World, offers: Mapping[str, Offer] = OFFERS) -> str:
    """What is not yet there, in words; "" when all is."""
    for name in SERVERS:
        if not any(_is_backend(pod, name) for pod in world.pods):
            return f"Pod {name} is not {'ready' if name in HOMES else 'running'}"
    for name, offer in offers.items():
        due = len(ready_of(name)) * len({*offer.versions} & {*world.spec.families})
        ready = sum(
            endpoint.get("conditions", {}).get("ready") is True for endpoint in _endpoints(world, name)
        )
        if ready != due and not offer.written:
            return f"Service {name} has {ready} ready endpoints, not {due}"
        if (
            offer.kind == "LoadBalancer"
            and not offer.proxied
            and not any(_has_balancer(s, name, world) for s in world.services)
        ):
            return f"Service {name} has no load balancer address"
    return ""


def _has_balancer(service: Any, name: str, world: World) -> bool:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    return bool(service["metadata"]["name"] == name and len(ingress) == len(world.spec.families))


def _is_backend(pod: dict[str, Any] | Any, name: str) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    there = ready or (name not in HOMES and pod.get("status", {}).get("phase") == "Running")
    return there and bool(pod["metadata"].get("labels", {}).get("backend") == name)


def pod_of(world: World, name: str) -> Any:
    """The Pod of the backend `name`, as from the API."""
    return next(pod for pod in world.pods if _is_backend(pod, name))
