"""Anything at all in any field, created, patched and deleted: refused or taken, never a crash."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from typing import Any

import pytest

from testbed.api.calls import Call, Target
from testbed.api.journal import Row
from testbed.api.objects import Objects
from testbed.api.registry import BY_ID, Kind, index
from testbed.api.service_addresses import ServiceAddresses
from testbed.api.status import StatusError
from testbed.api.store import Store
from testbed.api.table import PLAIN, Form
from testbed.api.verbs import Verbs
from testbed.model.topology import PortRange

Object = dict[str, Any]

POD_SPEC = {
    "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}],
    "terminationGracePeriodSeconds": 3,
    "nodeName": "n",
    "tolerations": [{"key": "k"}],
    "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
}
WORKLOAD = {
    "replicas": 1,
    "selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": POD_SPEC["containers"]}},
}
SEEDS: dict[str, Object] = {
    "services": {
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.20",
            "clusterIPs": ["10.96.0.20"],
            "externalIPs": ["192.0.2.1"],
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30001,
            "ipFamilies": ["IPv4"],
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "ports": [{"name": "p", "port": 80, "nodePort": 30002, "targetPort": "http", "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    },
    "pods": {
        "spec": POD_SPEC,
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready"}],
            "containerStatuses": [{"ready": True}],
        },
    },
    "deployments.apps": {"spec": WORKLOAD, "status": {"replicas": 1, "conditions": [{"type": "Available"}]}},
    "endpointslices.discovery.k8s.io": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "p", "port": 80}],
    },
    "endpoints": {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]},
    "nodes": {
        "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "x"}]},
    },
    "secrets": {"data": {"a": "YQ=="}, "stringData": {"b": "c"}, "type": "Opaque"},
    "jobs.batch": {
        "spec": {"template": WORKLOAD["template"], "completions": 2},
        "status": {"startTime": "x"},
    },
}
METADATA = {
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "finalizers": ["x/y"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"}],
    "generateName": "g-",
}
JUNK = (None, True, -1, 0, 99999, 1.5, "", "text", [], ["text"], [None], [[]], {}, {"a": 1}, {"a": None})
TRIALS = 300


class Memory:
    """A journal that keeps nothing: what is durable is not the matter here."""

    def compacted(self) -> int:
        return 0

    def load(self) -> Iterator[Row]:
        return iter(())

    def append(self, rows: Sequence[Row]) -> None:
        pass

    def trim(self, compacted: int, revisions: Iterable[int]) -> None:
        pass

    def close(self) -> None:
        pass


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all fields inside a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


async def tried(verbs: Verbs, call: Call) -> None:
    try:
        await verbs.handle(call)
    except StatusError as refusal:
        if refusal.code >= 500:
            raise AssertionError(refusal.message) from refusal


async def lives(verbs: Verbs, kind: Kind, good: Object, path: tuple[Any, ...], junk: Any) -> None:
    """One object's life with junk in one field: created so, or well and changed so; shown; deleted."""
    bad = copy.deepcopy(good)
    put(bad, path, junk)
    namespace = "default" if kind.resource.namespaced else ""
    one, every = Target(kind, namespace, "x"), Target(kind, namespace)
    patch = "application/merge-patch+json"
    subresources = [part for part in kind.parts if part in ("status", "scale")]
    for first, then in ((bad, good), (good, bad)):
        await tried(verbs, Call(every, "create", {}, PLAIN, json.dumps(first).encode()))
        await tried(verbs, Call(one, "update", {}, PLAIN, json.dumps(then).encode()))
        await tried(verbs, Call(one, "patch", {}, PLAIN, json.dumps(then).encode(), patch))
        strategic = "application/strategic-merge-patch+json"
        await tried(verbs, Call(one, "patch", {}, PLAIN, json.dumps(then).encode(), strategic))
        for name in subresources:
            there = Target(kind, namespace, "x", name)
            await tried(verbs, Call(there, "patch", {}, PLAIN, json.dumps(then).encode(), patch))
        await tried(verbs, Call(every, "list", {}, Form("Table")))
        await tried(verbs, Call(one, "delete", {}, PLAIN, b'{"propagationPolicy":"Orphan"}'))
        await tried(verbs, Call(one, "delete", {"gracePeriodSeconds": "0"}, PLAIN))
        unheld = b'{"metadata":{"finalizers":null}}'
        await tried(verbs, Call(one, "patch", {}, PLAIN, unheld, patch))
        assert verbs.store.get(kind.id, one.key) is None


@pytest.mark.parametrize("name", SEEDS)
def test_no_junk_crashes_the_server(name: str) -> None:
    kind = BY_ID[name]
    good = {"metadata": {"name": "x", **METADATA}, **SEEDS[name]}
    where = [path for path in places(good) if path != ("metadata", "name")]
    dice = random.Random(name)

    async def main() -> None:
        store = Store(Memory(), index)
        store.start()
        objects = Objects(store, ServiceAddresses([IPv4Network("10.96.0.0/24")], PortRange(30000, 30099)))
        await objects.create(BY_ID["namespaces"], "", {"metadata": {"name": "default"}})
        for _ in range(TRIALS):
            await lives(Verbs(objects), kind, good, dice.choice(where), dice.choice(JUNK))
        await store.close()

    asyncio.run(main())
