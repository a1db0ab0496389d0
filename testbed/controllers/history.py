"""ControllerRevisions: the templates that a DaemonSet or StatefulSet had, for `kubectl rollout undo`."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.client import AlreadyExists
from testbed.controllers.base import Object, World, owned_by
from testbed.controllers.owner import REVISION, revision_of
from testbed.model.resources import CONTROLLER_REVISIONS, Resource

KEPT = 10
"""Revisions kept when `spec.revisionHistoryLimit` is silent."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class History:
    """Of all owners of one kind."""

    def __init__(self, world: World, resource: Resource) -> None:
        self._world, self._resource = world, resource
        self._revisions = world.by_controller(CONTROLLER_REVISIONS)

    async def record(self, owner: Object, pods: Iterable[Object]) -> None:
        """Have the present template as the latest revision, and forget the oldest that no Pod is of."""
        held = sorted(self._revisions[owner["metadata"]["uid"]], key=_number)
        latest = _number(held[-1]) if held else 0
        name, namespace = name_of(owner), owner["metadata"]["namespace"]
        mine = next((each for each in held if each["metadata"]["name"] == name), None)
        client, written = self._world.client, []
        if mine is None:
            try:
                made = revision(owner, self._resource, latest + 1)
                written.append(await client.create(CONTROLLER_REVISIONS, made))
            except AlreadyExists:  # its event is still under way
                return
        elif _number(mine) < latest:  # an old template again
            patch = {"revision": latest + 1}
            written.append(await client.patch(CONTROLLER_REVISIONS, name, namespace, patch))
        await self._world.write(
            client.delete(CONTROLLER_REVISIONS, each["metadata"]["name"], namespace)
            for each in surplus(owner, [each for each in held if each is not mine], pods)
        )
        await self._world.catch_up(CONTROLLER_REVISIONS, written)


def name_of(owner: Object) -> str:
    """Of the revision of the present template."""
    return f"{owner['metadata']['name']}-{revision_of(owner)}"


def revision(owner: Object, resource: Resource, number: int) -> Object:
    """The ControllerRevision of the present template: a patch that brings it back."""
    metadata, template = owner["metadata"], owner["spec"]["template"]
    annotations = metadata.get("annotations") or {}
    return {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": name_of(owner),
            "namespace": metadata["namespace"],
            "labels": {**(template["metadata"].get("labels") or {}), REVISION: revision_of(owner)},
            "annotations": {key: value for key, value in annotations.items() if key != LAST_APPLIED},
            "ownerReferences": [owned_by(owner, resource)],
        },
        "revision": number,
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
    }


def surplus(owner: Object, others: Iterable[Object], pods: Iterable[Object]) -> list[Object]:
    """The revisions, oldest first, beyond those that are kept. `others`: all but the present one."""
    used = {(pod["metadata"].get("labels") or {}).get(REVISION) for pod in pods}
    idle = [each for each in others if (each["metadata"].get("labels") or {}).get(REVISION) not in used]
    return idle[: max(0, len(idle) - owner["spec"].get("revisionHistoryLimit", KEPT))]


def _number(each: Object) -> int:
    return int(each.get("revision") or 0)
