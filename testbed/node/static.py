"""Static Pods: manifests in a directory of the node, each shown in the API by a mirror that the node makes.

A mirror shows and does not decide: who deletes it gets it back, and a component that it stands for runs on.
Source: tasks/configure-pod-container/static-pod of Kubernetes' documentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import yaml

from testbed.client import AlreadyExists, ApiError, Informer, NotFound
from testbed.model.resources import NODES, PODS

log = logging.getLogger(__name__)
Object = dict[str, Any]

MIRROR, HASH, SOURCE = (f"kubernetes.io/config.{word}" for word in ("mirror", "hash", "source"))
LOOK_EVERY, RETRY = 20.0, 1.0
"""Seconds between looks into the directory, as the kubelet's fileCheckFrequency; and after a failure."""
AFTER_DELETION = 1.0
"""Seconds that a deleted mirror stays away. `kubectl delete` looks twice, by name, before it watches the end:
what is back between the two it takes for the old one, and waits for ever. It did so in 11 of 60 tries."""


def is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def mirror(manifest: Object, node: Object) -> Object:
    """The Pod that shows a manifest of the node `node`. Raises KeyError, TypeError where it is none."""
    digest = hashlib.md5(json.dumps(manifest, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    metadata, name = manifest["metadata"], node["metadata"]["name"]
    owner = {
        "apiVersion": "v1",
        "kind": NODES.kind,
        "name": name,
        "uid": node["metadata"]["uid"],
        "controller": True,
    }
    marks = {MIRROR: digest, HASH: digest, SOURCE: "file"}
    return {
        **manifest,
        "metadata": {
            **metadata,
            "name": f"{metadata['name']}-{name}",
            "namespace": metadata.get("namespace") or "default",
            "annotations": {**(metadata.get("annotations") or {}), **marks},
            "ownerReferences": [owner],
        },
        "spec": {
            **manifest["spec"],
            "nodeName": name,
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
        },
    }


class StaticPods:
    """`run()` it as a task of the node's agent; `pods` are those of the node."""

    def __init__(self, pods: Informer, node: str, directory: Path) -> None:
        self._pods, self._client, self._node, self._directory = pods, pods.client, node, directory
        self._gone = asyncio.Event()

    async def run(self) -> None:
        await self._pods.synced.wait()
        self._pods.subscribe(lambda old, new: None if new else self._gone.set())
        while True:
            self._gone.clear()
            pause = LOOK_EVERY
            try:
                await self._mirror_all()
            except (ApiError, OSError, yaml.YAMLError, KeyError, TypeError) as error:
                log.warning("static Pods in %s: %s: %s", self._directory, type(error).__name__, error)
                pause = RETRY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._gone.wait()
                await asyncio.sleep(AFTER_DELETION)

    async def _mirror_all(self) -> None:
        """What is missing is made; what shows another manifest, or none, goes, and is made when it has."""
        node = await self._client.get(NODES, self._node)
        files = sorted(self._directory.glob("*.yaml"))
        wanted = [mirror(yaml.safe_load(file.read_text()), node) for file in files]
        digests = {_key(pod): pod["metadata"]["annotations"][HASH] for pod in wanted}
        for pod in list(self._pods.store.values()):
            if is_mirror(pod) and pod["metadata"]["annotations"].get(HASH) != digests.get(_key(pod)):
                with contextlib.suppress(NotFound):
                    await self._client.delete(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
        for pod in wanted:
            with contextlib.suppress(AlreadyExists):
                await self._client.create(PODS, pod)


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
