"""ClusterRoles that are the sum of others: their rules follow those that their selectors name."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.client import key_of
from testbed.controllers.base import Controller, Object, World
from testbed.model.labels import selects
from testbed.model.resources import CLUSTER_ROLES


class ClusterRoleAggregation(Controller):
    """As k8s.io/kubernetes `pkg/controller/clusterroleaggregation`."""

    name = "clusterrole-aggregation"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.watch(CLUSTER_ROLES, lambda changed: map(key_of, filter(_is_sum, self._all())))

    def _all(self) -> list[Object]:
        return list(self.world.informer(CLUSTER_ROLES).store.values())

    async def sync(self, key: str) -> None:
        role = self.world.informer(CLUSTER_ROLES).store.get(key)
        if role is None or not _is_sum(role):
            return
        rules = summed(role, self._all())
        if rules != (role.get("rules") or []):
            await self.client.update(CLUSTER_ROLES, {**role, "rules": rules})


def summed(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules of all roles that an aggregated one names, each once."""
    selectors = role["aggregationRule"].get("clusterRoleSelectors") or ()
    rules: list[Object] = []
    for each in sorted(roles, key=key_of):
        labels = each["metadata"].get("labels") or {}
        named = any(selects(selector, labels) for selector in selectors)
        if named and each["metadata"]["name"] != role["metadata"]["name"]:
            rules += [rule for rule in each.get("rules") or () if rule not in rules]
    return rules


def _is_sum(role: Object) -> bool:
    return bool(role.get("aggregationRule"))
