"""Pods that must leave their node: it has a taint NoExecute that they do not bear for ever, or is no more."""

from __future__ import annotations

from testbed.client import NotFound, key_of
from testbed.controllers.base import Controller, Object, World
from testbed.controllers.owner import is_active
from testbed.controllers.placement import covers
from testbed.model.conditions import seconds_since
from testbed.model.resources import NODES, PODS


class TaintEviction(Controller):
    """Keys are those of Pods."""

    name = "taint-eviction"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pods = world.index(PODS, "node", lambda pod: [str(pod["spec"].get("nodeName") or "")])
        world.informer(NODES).subscribe(self._node_changed)
        world.informer(PODS).subscribe(self._pod_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or _driving(old) != _driving(new):
            for pod in self.pods[(new or old or {})["metadata"]["name"]]:
                self.queue.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        node = new and new["spec"].get("nodeName")
        if new and node and not (old and old["spec"].get("nodeName")):
            there = self.world.informer(NODES).store.get(node)
            if there is None or _driving(there):
                self.queue.add(key_of(new))

    async def sync(self, key: str) -> None:
        pod = self.world.informer(PODS).store.get(key)
        if pod is None or not pod["spec"].get("nodeName"):
            return
        node = self.world.informer(NODES).store.get(pod["spec"]["nodeName"])
        if node is None:
            if await self._is_gone(pod["spec"]["nodeName"]):
                await self._delete(pod, grace=0)  # nobody is left there to end it
            return
        left = patience(pod, _driving(node))
        if left is None or not is_active(pod):
            return
        if left > 0:
            self.queue.add(key, left)
            return
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        await self.world.events.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {name}")
        await self._delete(pod)

    async def _is_gone(self, node: str) -> bool:
        """Ask the API itself: the copy may be behind the Pods'."""
        try:
            await self.client.get(NODES, node)
        except NotFound:
            return True
        return False

    async def _delete(self, pod: Object, grace: int | None = None) -> None:
        metadata = pod["metadata"]
        try:
            await self.client.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_period=grace
            )
        except NotFound:
            return


def _driving(node: Object | None) -> list[Object]:
    """The taints of a node that drive Pods away."""
    taints = (node or {}).get("spec", {}).get("taints") or ()
    return [taint for taint in taints if taint["effect"] == "NoExecute"]


def patience(pod: Object, taints: list[Object]) -> float | None:
    """Seconds that the Pod may stay under these taints NoExecute; None: for ever.

    As tolerationSeconds says, from when the taint came; 0 for one that no toleration covers.
    """
    tolerations = pod["spec"].get("tolerations") or ()
    left: list[float] = []
    for taint in taints:
        fitting = [each for each in tolerations if covers(each, taint)]
        if not fitting:
            return 0.0
        limits = [each["tolerationSeconds"] for each in fitting if each.get("tolerationSeconds") is not None]
        if limits:
            age = seconds_since(taint["timeAdded"]) if taint.get("timeAdded") else 0.0
            left.append(max(0.0, min(limits) - age))
    return min(left, default=None)
