"""Deployments: a ReplicaSet per Pod template, rolled from the old ones to the new."""

from __future__ import annotations

from testbed.client import AlreadyExists
from testbed.client.events import Recorder
from testbed.controllers.base import Controller, Object, World, controller_key, owned_by
from testbed.controllers.rollout import Scale, bounds, recreate, rolling, template_hash
from testbed.model.conditions import timestamp, transition
from testbed.model.resources import DEPLOYMENTS, PODS, REPLICA_SETS

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"
NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MOST}


class Deployments(Controller):
    name = "deployment"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.replica_sets = world.by_controller(REPLICA_SETS)
        self.pods = world.by_controller(PODS)
        self.events = Recorder(world.client, "deployment-controller")
        self.watch(DEPLOYMENTS)
        self.watch(REPLICA_SETS, lambda replica_set: controller_key(replica_set, "Deployment"))

    async def sync(self, key: str) -> None:
        deployment = self.world.informer(DEPLOYMENTS).store.get(key)
        if deployment is None or deployment["metadata"].get("deletionTimestamp"):
            return
        mine = self.replica_sets[deployment["metadata"]["uid"]]
        mine.sort(key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))
        new = next((each for each in mine if _same_template(each, deployment)), None)
        others = [each for each in mine if each is not new and each["spec"].get("replicas")]
        if deployment["spec"].get("paused") and (new is None or others):  # it may be scaled, not rolled
            await self._report(deployment, new, mine)
            return
        new = await self._new(deployment, new, mine)
        old = [each for each in mine if each["metadata"]["uid"] != new["metadata"]["uid"]]
        changes = self._next(deployment, new, old)
        written = await self.world.write(
            self._scale(deployment, each, changes[each["metadata"]["name"]])
            for each in [new, *old]
            if each["metadata"]["name"] in changes
        )
        await self.world.catch_up(REPLICA_SETS, written)
        for each in (one for one in [new, *old] if one["metadata"]["name"] in changes):
            self._tell(deployment, each, changes[each["metadata"]["name"]])
        await self._forget(deployment, old)
        await self._report(deployment, new, [*old, new])

    def _tell(self, deployment: Object, replica_set: Object, replicas: int) -> None:
        before, name = replica_set["spec"].get("replicas", 1), replica_set["metadata"]["name"]
        way = "up" if replicas > before else "down"
        message = f"Scaled {way} replica set {name} from {before} to {replicas}"
        self.events.note(deployment, "ScalingReplicaSet", message)

    async def _new(self, deployment: Object, found: Object | None, mine: list[Object]) -> Object:
        """The ReplicaSet of the present template, made if need be, with the highest revision of all."""
        others = [each for each in mine if each is not found]
        revision = 1 + max((_revision(each) for each in others), default=0)
        if found is None:
            found = await self._create(deployment, revision)
        elif _revision(found) < revision:
            found = await self._annotate(found, {REVISION: str(revision)})
        if _revision(deployment) != _revision(found):
            metadata = deployment["metadata"]
            patch = {"metadata": {"annotations": {REVISION: str(_revision(found))}}}
            await self.client.patch(DEPLOYMENTS, metadata["name"], metadata["namespace"], patch)
        return found

    async def _create(self, deployment: Object, revision: int) -> Object:
        metadata, spec = deployment["metadata"], deployment["spec"]
        mark = {HASH: template_hash(spec["template"])}
        template = {**spec["template"], "metadata": {**spec["template"].get("metadata", {})}}
        template["metadata"]["labels"] = {**template["metadata"].get("labels", {}), **mark}
        selector = {
            **spec["selector"],
            "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **mark},
        }
        copied = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in NOT_COPIED}
        replica_set: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{metadata['name']}-{mark[HASH]}",
                "namespace": metadata["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {**copied, REVISION: str(revision)},
                "ownerReferences": [owned_by(deployment, DEPLOYMENTS)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template}
            | ({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
        }
        try:
            made = await self.client.create(REPLICA_SETS, replica_set)
        except AlreadyExists:  # an earlier try whose event is still under way, or a leftover to be collected
            name, namespace = replica_set["metadata"]["name"], metadata["namespace"]
            made = await self.client.get(REPLICA_SETS, name, namespace)
            if controller_key(made, "Deployment") != [f"{namespace}/{metadata['name']}"]:
                raise
        await self.world.catch_up(REPLICA_SETS, [made])
        return made

    async def _annotate(self, replica_set: Object, annotations: dict[str, str]) -> Object:
        metadata = replica_set["metadata"]
        patch = {"metadata": {"annotations": annotations}}
        return await self.client.patch(REPLICA_SETS, metadata["name"], metadata["namespace"], patch)

    def _next(self, deployment: Object, new: Object, old: list[Object]) -> dict[str, int]:
        spec = deployment["spec"]
        desired, strategy = spec.get("replicas", 1), spec.get("strategy") or {}
        scale, scales = _scale_of(new), [_scale_of(each) for each in old]
        if strategy.get("type") == "Recreate":
            pods = sum(len(self.pods[each["metadata"]["uid"]]) for each in old)
            return recreate(desired, scale, scales, pods)
        return rolling(desired, *bounds(desired, strategy), scale, scales)

    async def _scale(self, deployment: Object, replica_set: Object, replicas: int) -> Object:
        metadata, spec = replica_set["metadata"], deployment["spec"]
        desired = spec.get("replicas", 1)
        surge, _ = bounds(desired, spec.get("strategy") or {})
        annotations = {DESIRED: str(desired), MOST: str(desired + surge)}
        patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}
        return await self.client.patch(REPLICA_SETS, metadata["name"], metadata["namespace"], patch)

    async def _forget(self, deployment: Object, old: list[Object]) -> None:
        """Delete empty ReplicaSets beyond the history that is kept for `kubectl rollout undo`."""
        empty = [each for each in old if not each["spec"].get("replicas") and not _count(each, "replicas")]
        kept = deployment["spec"].get("revisionHistoryLimit", 10)
        surplus = sorted(empty, key=_revision)[: max(0, len(empty) - kept)]
        await self.world.write(
            self.client.delete(REPLICA_SETS, each["metadata"]["name"], each["metadata"]["namespace"])
            for each in surplus
        )

    async def _report(self, deployment: Object, new: Object | None, all_sets: list[Object]) -> None:
        status = _status(deployment, new, all_sets)
        if status != deployment.get("status"):
            metadata = deployment["metadata"]
            patch = {"status": {**dict.fromkeys(deployment.get("status") or {}), **status}}
            name, namespace = metadata["name"], metadata["namespace"]
            written = await self.client.patch(DEPLOYMENTS, name, namespace, patch, subresource="status")
            await self.world.catch_up(DEPLOYMENTS, [written])


def _status(deployment: Object, new: Object | None, all_sets: list[Object]) -> Object:
    """The status; counts of 0 are left out, as Kubernetes does."""
    desired = deployment["spec"].get("replicas", 1)
    counts = {
        "replicas": sum(_count(each, "replicas") for each in all_sets),
        "updatedReplicas": _count(new, "replicas") if new else 0,
        "readyReplicas": sum(_count(each, "readyReplicas") for each in all_sets),
        "availableReplicas": sum(_count(each, "availableReplicas") for each in all_sets),
    }
    counts["unavailableReplicas"] = max(0, desired - counts["availableReplicas"])
    _, unavailable = bounds(desired, deployment["spec"].get("strategy") or {})
    enough = counts["availableReplicas"] >= desired - unavailable
    done = counts["replicas"] == counts["updatedReplicas"] == counts["availableReplicas"] == desired
    name = new["metadata"]["name"] if new else ""
    available = (
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )
    progress = (
        ("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        if done
        else ("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    )
    wanted = [
        transition(deployment, "Available", enough, *available),
        transition(deployment, "Progressing", True, *progress),
    ]
    held = {each["type"]: each for each in (deployment.get("status") or {}).get("conditions") or ()}
    return {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{name: count for name, count in counts.items() if count},
        "conditions": [_updated(held.get(each["type"]), each) for each in wanted],
    }


def _updated(held: Object | None, wanted: Object) -> Object:
    """With `lastUpdateTime`, which Deployments have in their conditions besides the transition's."""
    since = (held or {}).get("lastUpdateTime")
    same = held is not None and {**wanted, "lastUpdateTime": since} == held
    return {**wanted, "lastUpdateTime": since if same else timestamp()}


def _same_template(replica_set: Object, deployment: Object) -> bool:
    mark = replica_set["metadata"].get("labels", {}).get(HASH)
    return bool(mark == template_hash(deployment["spec"]["template"]))


def _revision(obj: Object) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(REVISION) or 0)


def _count(replica_set: Object, name: str) -> int:
    return int((replica_set.get("status") or {}).get(name) or 0)


def _scale_of(replica_set: Object) -> Scale:
    name, replicas = replica_set["metadata"]["name"], replica_set["spec"].get("replicas", 1)
    return Scale(name, replicas, _count(replica_set, "availableReplicas"))
