"""The scheduler: binds each Pod without a node to the admissible node that has the fewest."""

from __future__ import annotations

from testbed.client import ApiError, Conflict, NotFound, key_of
from testbed.client.events import Recorder
from testbed.controllers.base import Controller, Object, World
from testbed.controllers.owner import is_active
from testbed.controllers.placement import choose, explain
from testbed.model.conditions import condition, transition
from testbed.model.resources import NODES, PODS

DEFAULT_SCHEDULER = "default-scheduler"


class Scheduler(Controller):
    name = "scheduler"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.events = Recorder(world.client, DEFAULT_SCHEDULER)
        self._load: dict[str, int] = {}
        self._placed: dict[str, str] = {}
        self._hopeless: set[str] = set()
        world.informer(PODS).subscribe(self._pod_changed)
        world.informer(NODES).subscribe(self._node_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        key = key_of(new or old or {})
        if new is None or not is_active(new):
            self._release(key)
            self._hopeless.discard(key)
        elif new["spec"].get("nodeName"):
            self._assume(key, new["spec"]["nodeName"])
        else:
            self.queue.add(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        waiting, self._hopeless = self._hopeless, set()
        for key in waiting:
            self.queue.add(key)

    def _assume(self, key: str, node: str) -> None:
        """Count the Pod where it is going, before the watch tells so."""
        self._release(key)
        self._placed[key] = node
        self._load[node] = self._load.get(node, 0) + 1

    def _release(self, key: str) -> None:
        node = self._placed.pop(key, None)
        if node:
            self._load[node] -= 1

    async def sync(self, key: str) -> None:
        pod = self.world.informer(PODS).store.get(key)
        if pod is None or pod["spec"].get("nodeName") or not is_active(pod):
            return
        if pod["spec"].get("schedulerName", DEFAULT_SCHEDULER) != DEFAULT_SCHEDULER:
            return
        nodes = list(self.world.informer(NODES).store.values())
        node = choose(pod, nodes, self._load)
        if not node:
            await self._give_up(key, pod, explain(pod, nodes))
            return
        self._assume(key, node)
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid")},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self.client.create(PODS, binding, subresource="binding")
        except (Conflict, NotFound):  # bound by someone else, or gone: the watch will tell
            self._release(key)
        except ApiError:
            self._release(key)
            raise

    async def _give_up(self, key: str, pod: Object, why: str) -> None:
        """Say so, and try again when a node changes."""
        self._hopeless.add(key)
        held = condition(pod, "PodScheduled")
        if held and held.get("message") == why:
            return
        metadata = pod["metadata"]
        others = [c for c in (pod.get("status") or {}).get("conditions") or () if c is not held]
        wanted = transition(pod, "PodScheduled", False, "Unschedulable", why)
        patch = {"status": {"conditions": [*others, wanted]}}
        await self.client.patch(PODS, metadata["name"], metadata["namespace"], patch, subresource="status")
        await self.events.warn(pod, "FailedScheduling", why)
