"""Node life cycle: a node whose heartbeats stop is Unknown, tainted, and its Pods are not ready."""

from __future__ import annotations

import asyncio

from testbed.controllers.base import Controller, Object, World
from testbed.model.conditions import condition, holds, timestamp, transition
from testbed.model.resources import LEASES, NODES, PODS

LEASE_NAMESPACE = "kube-node-lease"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
CONDITION_TAINTS = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}
"""Taints by the status of condition Ready, with both effects: nothing new comes, what is there goes."""
EFFECTS = ("NoSchedule", "NoExecute")
OURS = {*CONDITION_TAINTS.values(), UNSCHEDULABLE}
LOOK_EVERY = 1.0
"""Seconds between looks at the leases."""


class NodeLifecycle(Controller):
    name = "nodelifecycle"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._beats: dict[str, tuple[str, float]] = {}
        world.informer(LEASES).subscribe(self._lease_changed)
        self.watch(NODES)

    def _lease_changed(self, old: Object | None, new: Object | None) -> None:
        """When a heartbeat was seen, by our clock: the node's may be wrong."""
        if new and new["metadata"]["namespace"] == LEASE_NAMESPACE:
            name, beat = new["metadata"]["name"], str(new["spec"].get("renewTime"))
            if self._beats.get(name, ("", 0.0))[0] != beat:
                self._beats[name] = (beat, asyncio.get_running_loop().time())
                self.queue.add(name)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run())
            group.create_task(self._look())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for name in self.world.informer(NODES).store:
                self.queue.add(name)

    async def sync(self, key: str) -> None:
        node = self.world.informer(NODES).store.get(key)
        if node is None:
            self._beats.pop(key, None)
            return
        now = asyncio.get_running_loop().time()
        seen = self._beats.setdefault(key, ("", now))[1]
        lost = now - seen > self.world.node_grace_period
        ready = condition(node, "Ready")
        if lost and ready and ready["status"] != "Unknown":
            await self._lose(node)
        await self._taint(node, "Unknown" if lost else ready["status"] if ready else "False")

    async def _taint(self, node: Object, ready: str) -> None:
        """Have the taints that the node's condition asks for; those that others set stay."""
        taints = node["spec"].get("taints") or []
        wanted = [_dated(taint) for taint in taints if taint["key"] not in OURS]
        asked = [(CONDITION_TAINTS[ready], effect) for effect in EFFECTS if ready in CONDITION_TAINTS]
        asked += [(UNSCHEDULABLE, "NoSchedule")] if node["spec"].get("unschedulable") else []
        held = {(taint["key"], taint["effect"]): taint for taint in taints}
        for key, effect in asked:
            wanted.append(held.get((key, effect)) or _dated({"key": key, "effect": effect}))
        if wanted != taints:
            patch = {"spec": {"taints": wanted or None}}
            written = await self.client.patch(NODES, node["metadata"]["name"], None, patch)
            await self.world.catch_up(NODES, [written])

    async def _lose(self, node: Object) -> None:
        name = node["metadata"]["name"]
        message = "Kubelet stopped posting node status."
        gone = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": message}
        conditions = [
            {**each, **gone, "lastTransitionTime": timestamp()} for each in node["status"]["conditions"]
        ]
        await self.client.patch(
            NODES, name, None, {"status": {"conditions": conditions}}, subresource="status"
        )
        await self.world.write(
            self._not_ready(pod)
            for pod in self.world.informer(PODS).store.values()
            if pod["spec"].get("nodeName") == name and holds(pod, "Ready")
        )

    async def _not_ready(self, pod: Object) -> Object:
        others = [each for each in pod["status"]["conditions"] if each["type"] != "Ready"]
        lost = transition(pod, "Ready", False, "NodeNotReady")
        metadata = pod["metadata"]
        patch = {"status": {"conditions": [*others, lost]}}
        return await self.client.patch(
            PODS, metadata["name"], metadata["namespace"], patch, subresource="status"
        )


def _dated(taint: Object) -> Object:
    """With the time since when it drives Pods away, which tolerationSeconds count from."""
    needs = taint["effect"] == "NoExecute" and not taint.get("timeAdded")
    return {**taint, "timeAdded": timestamp()} if needs else taint
