"""The scheduler: binds each Pod without a node to the best that will have it."""

from __future__ import annotations

from testbed.client import ApiError, Conflict, NotFound, key_of
from testbed.client.events import Recorder
from testbed.controllers.base import Controller, Object, World
from testbed.controllers.neighbours import Surroundings, choose, is_particular, is_repelling
from testbed.controllers.owner import is_active
from testbed.controllers.placement import explain
from testbed.model.conditions import condition, transition
from testbed.model.resources import NAMESPACES, NODES, PODS

DEFAULT_SCHEDULER = "default-scheduler"


class Scheduler(Controller):
    name = "scheduler"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.events = Recorder(world.client, DEFAULT_SCHEDULER)
        self._on: dict[str, dict[str, Object]] = {}
        self._placed: dict[str, str] = {}
        self._repelling: set[str] = set()
        self._hopeless: set[str] = set()
        world.informer(PODS).subscribe(self._pod_changed)
        world.informer(NODES).subscribe(self._node_changed)
        world.informer(NAMESPACES)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        key = key_of(new or old or {})
        if new is None or _is_over(new):
            self._release(key)
            self._hopeless.discard(key)
            self._try_again()
        elif new["spec"].get("nodeName"):
            moved = key not in self._placed
            self._place(key, new, new["spec"]["nodeName"])
            if moved or (old and old["metadata"].get("labels") != new["metadata"].get("labels")):
                self._try_again()  # whoever waited for its company
        else:
            self.queue.add(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self._try_again()

    def _try_again(self) -> None:
        waiting, self._hopeless = self._hopeless, set()
        for key in waiting:
            self.queue.add(key)

    def _place(self, key: str, pod: Object, node: str) -> None:
        """Count the Pod where it is, or is going, before the watch tells so."""
        self._release(key)
        self._placed[key] = node
        self._on.setdefault(node, {})[key] = pod
        if is_repelling(pod):
            self._repelling.add(key)

    def _release(self, key: str) -> None:
        node = self._placed.pop(key, None)
        if node:
            del self._on[node][key]
            self._repelling.discard(key)

    async def sync(self, key: str) -> None:
        pod = self.world.informer(PODS).store.get(key)
        if pod is None or pod["spec"].get("nodeName") or not is_active(pod):
            return
        if pod["spec"].get("schedulerName", DEFAULT_SCHEDULER) != DEFAULT_SCHEDULER:
            return
        minded = bool(self._repelling) or is_particular(pod)
        nodes, namespaces = (self.world.informer(kind).store for kind in (NODES, NAMESPACES))
        around = Surroundings(list(nodes.values()), self._on, namespaces)
        node, reasons = choose(pod, around, minded)
        if not node:
            await self._give_up(key, pod, explain(reasons))
            return
        self._place(key, pod, node)
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
        else:
            self.events.note(pod, "Scheduled", f"Successfully assigned {key} to {node}")

    async def _give_up(self, key: str, pod: Object, why: str) -> None:
        """Say so, and try again when a node or another Pod changes."""
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


def _is_over(pod: Object) -> bool:
    """Whether it takes no room any more; one on its way out still holds its ports."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
