"""The ingress add-on sleeps until there is an Ingress: no Pod, no address outside. Then it gets both."""

from __future__ import annotations

from testbed.client import NotFound
from testbed.controllers.base import Controller, World
from testbed.model.resources import DEPLOYMENTS, INGRESSES, SERVICES

NAMESPACE, NAME = "kube-system", "ingress-nginx"
ASLEEP = "testbed/asleep"
"""The annotation of the add-on's Deployment that says so; it is taken off once and for all."""


class IngressWaker(Controller):
    """The one key is that of the add-on."""

    name = "ingress-waker"
    workers = 1

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._key = f"{NAMESPACE}/{NAME}"
        self.watch(INGRESSES, lambda ingress: [self._key])
        self.watch(DEPLOYMENTS, lambda each: [self._key] if each["metadata"]["name"] == NAME else [])

    async def sync(self, key: str) -> None:
        deployment = self.world.informer(DEPLOYMENTS).store.get(key)
        annotations = (deployment or {}).get("metadata", {}).get("annotations") or {}
        if ASLEEP not in annotations or not self.world.informer(INGRESSES).store:
            return
        try:
            await self.client.patch(SERVICES, NAME, NAMESPACE, {"spec": {"type": "LoadBalancer"}})
            awake = {"metadata": {"annotations": {ASLEEP: None}}, "spec": {"replicas": 1}}
            await self.client.patch(DEPLOYMENTS, NAME, NAMESPACE, awake)
        except NotFound:  # the user has removed it
            return
