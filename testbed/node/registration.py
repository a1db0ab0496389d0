"""The Node object: registered at start, kept Ready by heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.client import AlreadyExists, ApiError, Client, NotFound
from testbed.errors import UsageError
from testbed.model.conditions import condition, holds, timestamp
from testbed.model.families import Network
from testbed.model.resources import LEASES, NODES
from testbed.model.topology import KUBELET_PORT

log = logging.getLogger(__name__)
Object = dict[str, Any]

VERSION = "v1.32.0+testbed"
LEASE_NAMESPACE = "kube-node-lease"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MOST_PODS = 4096
PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


@dataclass(frozen=True)
class Identity:
    """What the node says of itself, its primary family first.

    `heartbeat`: seconds between two; `lease`: how long one lasts.
    """

    name: str
    addresses: Sequence[str]
    pod_cidrs: Sequence[Network]
    labels: Mapping[str, str]
    taints: Sequence[Object]
    heartbeat: float = 10.0
    lease: int = 40


def parse_taints(text: str) -> list[Object]:
    """`key=value:Effect,key:Effect` of --register-with-taints. Raises UsageError."""
    taints = []
    for word in filter(None, text.split(",")):
        left, colon, effect = word.rpartition(":")
        key, _, value = left.partition("=")
        if not colon or not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise UsageError(f"--register-with-taints {word!r} is not KEY[=VALUE]:EFFECT")
        taints.append({"key": key, "effect": effect} | ({"value": value} if value else {}))
    return taints


def parse_labels(text: str) -> dict[str, str]:
    """`key=value,…` of --node-labels. Raises UsageError."""
    pairs = [word.partition("=") for word in filter(None, text.split(","))]
    if any(not key or not equals for key, equals, _ in pairs):
        raise UsageError(f"--node-labels {text!r} is not KEY=VALUE,…")
    return {key: value for key, _, value in pairs}


def node_object(me: Identity) -> Object:
    """The Node as it is created, status included."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    well_known = {"hostname": me.name, "os": "linux", "arch": architecture}
    labels = {f"kubernetes.io/{name}": value for name, value in well_known.items()}
    labels |= {f"beta.kubernetes.io/{name}": well_known[name] for name in ("os", "arch")}
    ranges = list(map(str, me.pod_cidrs))
    spec: Object = {"podCIDR": ranges[0], "podCIDRs": ranges} if ranges else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": me.name, "labels": {**labels, **me.labels}},
        "spec": spec | ({"taints": list(me.taints)} if me.taints else {}),
        "status": node_status(me, {}),
    }


def node_status(me: Identity, held: Object) -> Object:
    """The node's status; `held` is the Node as the API has it, for the conditions' times."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    resources = {
        "cpu": str(os.cpu_count()),
        "memory": f"{memory}Ki",
        "pods": str(min([MOST_PODS, *(each.num_addresses - 3 for each in me.pod_cidrs)])),
    }
    now = timestamp()
    conditions = [(kind, "False", reason, text) for kind, reason, text in PRESSURES]
    conditions.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    return {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in me.addresses),
            {"type": "Hostname", "address": me.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": _node_info(),
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": _since(held, kind, status) or now,
            }
            for kind, status, reason, message in conditions
        ],
    }


def _since(held: Object, kind: str, status: str) -> str:
    found = condition(held, kind)
    return str(found["lastTransitionTime"]) if found and found["status"] == status else ""


def _node_info() -> Object:
    system = platform.freedesktop_os_release()
    return {
        "kernelVersion": os.uname().release,
        "osImage": system.get("PRETTY_NAME", "Linux"),
        "operatingSystem": "linux",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "containerRuntimeVersion": "testbed://0.1.0",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": VERSION,
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


async def given_range(kubeconfig: str, me: Identity) -> str:
    """The Pod ranges, CIDR[,CIDR], that the controller manager gives the node once it is registered."""
    delay = 0.1
    wanted = node_object(me)
    del wanted["status"]
    async with Client.from_kubeconfig(kubeconfig, "kubelet") as client:
        while True:
            try:
                with contextlib.suppress(AlreadyExists):
                    await client.create(NODES, wanted)
                held = (await client.get(NODES, me.name))["spec"].get("podCIDRs")
                if held:
                    return ",".join(held)
            except ApiError as error:
                log.warning("node %s: %s; again in %.1f s", me.name, error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, me.heartbeat)


class Registration:
    """`run()` it as a task: registers, then renews the lease and mends the Node's status for ever."""

    def __init__(self, client: Client, me: Identity) -> None:
        self._client = client
        self._me = me

    async def run(self) -> None:
        delay = 0.1
        while True:
            try:
                await self.register()
                while True:
                    delay = 0.1
                    await asyncio.sleep(self._me.heartbeat)
                    await self._renew()
                    await self._mend()
            except ApiError as error:
                log.warning("node %s: %s; again in %.1f s", self._me.name, error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, self._me.heartbeat)

    async def register(self) -> None:
        """Create the Node, or bring an existing one's labels and status up to date.

        The lease comes first: a Node that is Ready again by an old one would count as lost again at once.
        """
        wanted = node_object(self._me)
        try:
            await self._client.create(NODES, wanted)
        except AlreadyExists:
            patch = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            await self._client.patch(NODES, self._me.name, None, patch)
        await self._renew()
        await self._mend(always=True)

    async def _mend(self, always: bool = False) -> None:
        held = await self._client.get(NODES, self._me.name)
        if always or not holds(held, "Ready"):
            patch = {"status": node_status(self._me, held)}
            await self._client.patch(NODES, self._me.name, None, patch, subresource="status")

    async def _renew(self) -> None:
        """The Lease in kube-node-lease (KEP-589)."""
        name, now = self._me.name, timestamp(micro=True)
        spec = {"holderIdentity": name, "leaseDurationSeconds": self._me.lease, "renewTime": now}
        try:
            await self._client.patch(LEASES, name, LEASE_NAMESPACE, {"spec": spec})
        except NotFound:
            metadata = {"name": name, "namespace": LEASE_NAMESPACE}
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": metadata,
                "spec": spec,
            }
            await self._client.create(LEASES, lease)
