"""The ingress controller: from what the API says to what nginx serves, and back to the Ingresses' status."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any

from testbed.client import ApiError, Client, Informer, NotFound
from testbed.client.events import Recorder
from testbed.errors import TestbedError
from testbed.ingress.configuration import configuration
from testbed.ingress.nginx import Nginx, Pair, Refused
from testbed.ingress.routes import SERVICE_NAME, Site, World, is_ours, sites
from testbed.model.resources import ENDPOINT_SLICES, INGRESS_CLASSES, INGRESSES, SECRETS, SERVICES

log = logging.getLogger(__name__)
Object = dict[str, Any]

KINDS = (INGRESSES, INGRESS_CLASSES, SERVICES, SECRETS, ENDPOINT_SLICES)
GATHER = 0.05
"""Seconds for which changes are gathered before nginx is told of them."""
RETRY = 1.0
"""Seconds after which the status is tried again."""


class Ingress:
    """Keeps one nginx as the Ingresses say. `service`: the key of the Service that leads to it."""

    def __init__(self, client: Client, nginx: Nginx, service: str) -> None:
        self._client, self._nginx, self._service = client, nginx, service
        self._events = Recorder(client, "ingress-nginx")
        self.informers = {kind: Informer(client, kind) for kind in KINDS}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the API for ever."""
        for informer in self.informers.values():
            await informer.synced.wait()
            informer.subscribe(lambda old, new: self._changed.set())
        self._changed.set()
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER)
            self._changed.clear()
            await self._sync()

    async def _sync(self) -> None:
        classes = self.informers[INGRESS_CLASSES].store
        mine = [each for each in self.informers[INGRESSES].store.values() if is_ours(each, classes)]
        found = sites(mine, World(self.informers[SERVICES].store, self._slices()))
        names, pairs = self._certificates(found)
        try:
            if await self._nginx.serve(configuration(found, names, self._nginx.directory), pairs):
                log.info("serving %d Ingresses, %d hosts", len(mine), len(found))
        except Refused as error:
            log.error("%s", error)
            for each in mine:
                await self._events.warn(each, "Rejected", str(error))
            return
        try:
            for each in mine:
                await self._tell(each)
        except ApiError as error:
            log.warning("status: %s; again in %.1f s", error, RETRY)
            asyncio.get_running_loop().call_later(RETRY, self._changed.set)

    def _slices(self) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = {}
        for each in self.informers[ENDPOINT_SLICES].store.values():
            name = (each["metadata"].get("labels") or {}).get(SERVICE_NAME)
            found.setdefault(f"{each['metadata']['namespace']}/{name}", []).append(each)
        return found

    def _certificates(self, found: list[Site]) -> tuple[dict[str, str], dict[str, Pair]]:
        """The file name for each Secret that has a pair, and the pairs by file name."""
        names: dict[str, str] = {}
        pairs: dict[str, Pair] = {}
        for key in {site.secret for site in found if site.secret}:
            data = (self.informers[SECRETS].store.get(key) or {}).get("data") or {}
            try:
                pair = base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"])
            except (KeyError, ValueError):
                log.warning("Secret %s has no tls.crt and tls.key; a certificate of our own is shown", key)
                continue
            names[key] = hashlib.sha256(b"".join(pair)).hexdigest()[:16]  # another content is another file
            pairs[names[key]] = pair
        return names, pairs

    async def _tell(self, ingress: Object) -> None:
        """The address to come to, in the Ingress's status: that of our Service's load balancer."""
        service = self.informers[SERVICES].store.get(self._service) or {}
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        places = [{"ip": one["ip"]} for one in balancer.get("ingress") or () if one.get("ip")]
        held = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        if places == held:
            return
        metadata, patch = ingress["metadata"], {"status": {"loadBalancer": {"ingress": places}}}
        with contextlib.suppress(NotFound):
            await self._client.patch(
                INGRESSES, metadata["name"], metadata["namespace"], patch, subresource="status"
            )


async def run(kubeconfig: str, directory: Path, service: str) -> None:
    """Serve for ever. Raises UsageError for a kubeconfig that is unusable, TestbedError when nginx ends."""
    nginx = Nginx(directory)
    async with Client.from_kubeconfig(kubeconfig, "ingress-nginx") as client:
        ingress = Ingress(client, nginx, service)
        async with asyncio.TaskGroup() as group:
            for informer in ingress.informers.values():
                group.create_task(informer.run())
            group.create_task(ingress.run())
            raise TestbedError(f"nginx ended with code {await nginx.ended()}")
