"""DaemonSets: a Pod on every node that the template may go to."""

from __future__ import annotations

from testbed.controllers.base import Object, World
from testbed.controllers.history import History
from testbed.controllers.owner import REVISION, PodOwner, is_active, is_finished, is_of, pod_of, revision_of
from testbed.controllers.placement import misfit
from testbed.controllers.rollout import share
from testbed.model.conditions import holds
from testbed.model.resources import DAEMON_SETS, NODES

NODE_TAINTS = (
    "not-ready",
    "unreachable",
    "disk-pressure",
    "memory-pressure",
    "pid-pressure",
    "unschedulable",
)
"""Taints `node.kubernetes.io/…` that every daemon bears: it belongs to the node, whatever its condition."""
TOLERATIONS = [{"key": f"node.kubernetes.io/{name}", "operator": "Exists"} for name in NODE_TAINTS]


class DaemonSets(PodOwner):
    name = "daemonset"
    resource = DAEMON_SETS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._fits: dict[str, object] = {}
        self.history = History(world, DAEMON_SETS)
        world.informer(NODES).subscribe(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Heartbeats change nothing here; labels and taints do."""
        name = (new or old or {})["metadata"]["name"]
        shape = (new["metadata"].get("labels"), new["spec"].get("taints")) if new else None
        if self._fits.get(name) != shape:
            self._fits[name] = shape
            for key in self.world.informer(DAEMON_SETS).store:
                self.queue.add(key)

    async def sync(self, key: str) -> None:
        owner = self.owner(key)
        if owner is None or self.is_ending(owner):
            return
        await self.history.record(owner, self.owned(owner))
        wanted = {
            name
            for name, node in self.world.informer(NODES).store.items()
            if not misfit(daemon_on(owner, name), node)
        }
        held = self._by_node(owner)
        gone = [pod for name, pods in held.items() for pod in pods[name in wanted :]]
        gone += [pods[0] for name, pods in held.items() if name in wanted and is_finished(pods[0])]
        await self.remove(gone)
        occupied = {pod["spec"].get("nodeName", "") for pod in self.owned(owner)}
        await self.make(daemon_on(owner, name) for name in sorted(wanted - occupied))
        pods = {name: pods[0] for name, pods in self._by_node(owner).items() if name in wanted}
        await self.remove(outdated(owner, pods, len(wanted)))
        await self._report(owner, pods, wanted)

    def _by_node(self, owner: Object) -> dict[str, list[Object]]:
        """The owner's Pods by their node, oldest first; those on their way out are left out."""
        found: dict[str, list[Object]] = {}
        for pod in sorted(self.owned(owner), key=lambda each: each["metadata"]["creationTimestamp"]):
            if not pod["metadata"].get("deletionTimestamp"):
                found.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
        return found

    async def _report(self, owner: Object, pods: dict[str, Object], wanted: set[str]) -> None:
        revision = revision_of(owner)
        ready = sum(holds(pod, "Ready") and is_active(pod) for pod in pods.values())
        misplaced = sum(name not in wanted for name in self._by_node(owner))
        status = {
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": len(wanted),
            "numberMisscheduled": misplaced,
            "numberReady": ready,
            "observedGeneration": owner["metadata"].get("generation", 1),
        }
        counts = {
            "updatedNumberScheduled": sum(is_of(pod, revision) for pod in pods.values()),
            "numberAvailable": ready,
            "numberUnavailable": len(wanted) - ready,
        }
        await self.put_status(owner, status | {name: count for name, count in counts.items() if count})


def daemon_on(owner: Object, node: str) -> Object:
    """The Pod for a node, bound to it from the start."""
    pod = pod_of(owner, DAEMON_SETS, **{REVISION: revision_of(owner)})
    pod["spec"]["nodeName"] = node
    pod["spec"]["tolerations"] = [*(pod["spec"].get("tolerations") or ()), *TOLERATIONS]
    return pod


def outdated(owner: Object, pods: dict[str, Object], wanted: int) -> list[Object]:
    """The Pods of an older template that may go now: `maxUnavailable` nodes at most are without a daemon."""
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return []
    revision = revision_of(owner)
    old = [pod for _, pod in sorted(pods.items()) if not is_of(pod, revision)]
    most = max(1, share((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), wanted))
    serving = [pod for pod in pods.values() if holds(pod, "Ready")]
    useless = [pod for pod in old if not holds(pod, "Ready")]
    room = max(0, most - (wanted - len(serving)))
    return useless + [pod for pod in old if holds(pod, "Ready")][:room]
