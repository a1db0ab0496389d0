"""StatefulSets: Pods with names that stay, made and ended in order.

There are no persistent volumes here: a claim template gives each Pod an empty directory of that name.
"""

from __future__ import annotations

from testbed.controllers.base import Object, World
from testbed.controllers.history import History
from testbed.controllers.owner import (
    REVISION,
    PodOwner,
    is_active,
    is_finished,
    is_of,
    named,
    pod_of,
    revision_of,
)
from testbed.model.conditions import holds
from testbed.model.resources import STATEFUL_SETS

POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"


class StatefulSets(PodOwner):
    name = "statefulset"
    resource = STATEFUL_SETS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.history = History(world, STATEFUL_SETS)

    async def sync(self, key: str) -> None:
        owner = self.owner(key)
        if owner is None:
            return
        if not self.is_ending(owner):
            await self.history.record(owner, self.owned(owner))
            create, delete = plan(owner, self.owned(owner))
            await self.remove(delete)
            await self.make(member(owner, number) for number in create)
        await self._report(owner, [pod for pod in self.owned(owner) if is_active(pod)])

    async def _report(self, owner: Object, pods: list[Object]) -> None:
        revision, held = revision_of(owner), owner.get("status") or {}
        updated = sum(is_of(pod, revision) for pod in pods)
        current = held.get("currentRevision") or revision
        if updated == len(pods) == owner["spec"].get("replicas", 1):
            current = revision
        ready = sum(holds(pod, "Ready") for pod in pods)
        name = owner["metadata"]["name"]
        prefix = "" if current.startswith(f"{name}-") else f"{name}-"
        counts = {
            "readyReplicas": ready,
            "currentReplicas": sum(is_of(pod, current.removeprefix(f"{name}-")) for pod in pods),
            "updatedReplicas": updated,
        }
        status = {
            "replicas": len(pods),
            "availableReplicas": ready,
            **named(counts),
            "currentRevision": prefix + current,
            "updateRevision": f"{name}-{revision}",
            "observedGeneration": owner["metadata"].get("generation", 1),
            "collisionCount": 0,
        }
        await self.put_status(owner, status)


def ordinal(pod: Object) -> int:
    """The number at the end of the Pod's name; -1 when there is none."""
    number = pod["metadata"]["name"].rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def plan(owner: Object, pods: list[Object]) -> tuple[list[int], list[Object]]:
    """`(ordinals to create, Pods to delete)` now. Pure.

    In order: the next Pod comes when those before it are ready, and only the last goes when all others are.
    """
    spec = owner["spec"]
    replicas, one_by_one = spec.get("replicas", 1), spec.get("podManagementPolicy") != "Parallel"
    held = {ordinal(pod): pod for pod in pods}
    finished = [pod for pod in pods if is_finished(pod) and not pod["metadata"].get("deletionTimestamp")]
    if finished:
        return [], finished
    missing = [number for number in range(replicas) if number not in held]
    well = {number: is_active(pod) and holds(pod, "Ready") for number, pod in held.items()}
    if one_by_one:
        first = next((number for number in range(replicas) if not well.get(number)), None)
        if first is not None:
            return ([first], []) if first in missing else ([], _replaceable(owner, held[first]))
    surplus = sorted((number for number in held if number >= replicas), reverse=True)
    leaving = any(pod["metadata"].get("deletionTimestamp") for pod in pods)
    if one_by_one and surplus:
        return [], [] if leaving else [held[surplus[0]]]
    extra = [held[number] for number in surplus if is_active(held[number])]
    if missing or extra:
        return missing, extra
    return [], [] if leaving else _next_update(owner, held, well)


def _replaceable(owner: Object, pod: Object) -> list[Object]:
    """A Pod that is not ready, if a new template may mend it."""
    return [pod] if is_active(pod) and _is_old(owner, pod) and not holds(pod, "Ready") else []


def _next_update(owner: Object, held: dict[int, Object], well: dict[int, bool]) -> list[Object]:
    """The highest Pod of an older template, one at a time, down to the partition."""
    old = [number for number in sorted(held, reverse=True) if _is_old(owner, held[number])]
    return [held[old[0]]] if old and (all(well.values()) or not well[old[0]]) else []


def _is_old(owner: Object, pod: Object) -> bool:
    strategy = owner["spec"].get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    rolls = strategy.get("type", "RollingUpdate") == "RollingUpdate" and ordinal(pod) >= partition
    return rolls and not is_of(pod, revision_of(owner))


def member(owner: Object, number: int) -> Object:
    """The Pod of an ordinal."""
    name = f"{owner['metadata']['name']}-{number}"
    labels = {POD_NAME: name, POD_INDEX: str(number), REVISION: revision_of(owner)}
    pod = pod_of(owner, STATEFUL_SETS, **labels)
    del pod["metadata"]["generateName"]
    pod["metadata"]["name"] = pod["spec"]["hostname"] = name
    if owner["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = owner["spec"]["serviceName"]
    claims = [each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates") or ()]
    volumes = [each for each in pod["spec"].get("volumes") or () if each["name"] not in claims]
    pod["spec"]["volumes"] = volumes + [{"name": claim, "emptyDir": {}} for claim in claims]
    return pod
