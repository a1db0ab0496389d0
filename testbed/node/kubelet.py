"""The node agent: watches the Pods bound to its node and gives each a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.client import Client, Informer
from testbed.client.events import Recorder
from testbed.errors import TestbedError
from testbed.model.resources import PODS
from testbed.model.topology import KUBELET_PORT
from testbed.node import cni, logs, server
from testbed.node.accounts import Tokens
from testbed.node.admission import refusal, refused_before
from testbed.node.environment import Services
from testbed.node.launch import Node
from testbed.node.pod import PodWorker
from testbed.node.process import Status
from testbed.node.registration import Identity, Registration
from testbed.node.routes import PodRoutes
from testbed.node.runtime import ONE_SHOT, Runtime
from testbed.node.sandbox import Dns, Sandboxes
from testbed.node.static import StaticPods

log = logging.getLogger(__name__)
Object = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The flags of the command line."""

    kubeconfig: str
    me: Identity
    dns: Dns
    images: Sequence[tuple[str, str]]
    runtime_socket: str
    cni_configurations: Path
    cni_conf: str
    cni_programs: Sequence[Path]
    root: Path
    certificate: str
    key: str
    client_ca: str
    log_bytes: int
    most_pids: int = 0
    manifests: Path | None = None
    routes: str = "none"


class Kubelet:
    """The workers of a node, by Pod uid."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopted: dict[str, list[Status]] = {}

    async def adopt(self, pods: Informer) -> None:
        """Take over what an earlier agent of this node started; end what no Pod stands for any more."""
        for status in await self.node.runtime.list():
            kind, _, rest = status.id.partition("/")
            if kind == "pod":
                self._adopted.setdefault(rest.partition("/")[0], []).append(status)
        alive = {pod["metadata"]["uid"] for pod in pods.store.values()}
        for uid in (self.node.sandboxes.known() | set(self._adopted)) - alive:
            log.info("ending what is left of Pod %s", uid)
            for status in self._adopted.pop(uid, ()):
                await self.node.runtime.remove(status.id)
            with contextlib.suppress(TestbedError):
                await self.node.sandboxes.remove(uid)

    def changed(self, old: Object | None, new: Object | None) -> None:
        """The informer's callback."""
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            worker = self.workers.get(old["metadata"]["uid"])
            if worker:
                worker.gone()
        if new is None:
            return
        uid = new["metadata"]["uid"]
        if uid in self.workers:
            self.workers[uid].update(new)
        else:
            self.workers[uid] = self._worker(new)
            task = asyncio.create_task(self._live(uid))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _worker(self, pod: Object) -> PodWorker:
        uid = pod["metadata"]["uid"]
        fresh = self.node.sandboxes.attached(uid) is None and uid not in self._adopted
        taken = (each.pod for each in self.workers.values() if each.holds_its_ports)
        refused = (refused_before(pod) or refusal(pod, taken)) if fresh else None
        return PodWorker(self.node, pod, self._adopted.pop(uid, ()), refused)

    async def _live(self, uid: str) -> None:
        try:
            await self.workers[uid].run()
        except Exception:
            log.exception("the worker of Pod %s failed", uid)
        finally:
            del self.workers[uid]

    async def exits(self) -> None:
        """Tell the workers of each process that ends."""
        async for status in self.node.runtime.exits():
            kind, _, rest = status.id.partition("/")
            uid = rest.partition("/")[0]
            if kind == "pod" and uid in self.workers:
                self.workers[uid].exited(status)
            elif kind not in ("pod", ONE_SHOT):  # a unit of the machine, which a Pod may stand for
                for worker in self.workers.values():
                    if worker.runs(status):
                        worker.exited(status)
            elif uid in self._adopted:  # ended before its worker is there
                held = self._adopted[uid]
                self._adopted[uid] = [status if each.id == status.id else each for each in held]

    def find(self, namespace: str, name: str) -> PodWorker | None:
        for worker in self.workers.values():
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return worker
        return None


async def run(settings: Settings) -> None:
    """Run for ever."""
    me = settings.me
    cni.configure(settings.cni_configurations, me.pod_cidrs, settings.cni_conf)
    runtime = Runtime(settings.runtime_socket)
    network = cni.Network(settings.cni_configurations, settings.cni_programs, runtime)
    async with Client.from_kubeconfig(settings.kubeconfig, "kubelet") as client:
        node = Node(
            name=me.name,
            ips=me.addresses,
            client=client,
            runtime=runtime,
            sandboxes=Sandboxes(network, settings.root / "pods", me.addresses, settings.dns),
            services=Services(client),
            tokens=Tokens(client),
            events=Recorder(client, "kubelet", me.name),
            images=settings.images,
            most_pids=settings.most_pids,
        )
        kubelet = Kubelet(node)
        pods = Informer(client, PODS, field_selector=f"spec.nodeName={me.name}")
        async with asyncio.TaskGroup() as group:
            group.create_task(Registration(client, me).run())
            group.create_task(kubelet.exits())
            group.create_task(pods.run())
            group.create_task(logs.keep_short(settings.log_bytes))
            if settings.certificate:
                app = server.application(kubelet.find)
                keys = (settings.certificate, settings.key, settings.client_ca)
                group.create_task(server.serve(app, me.addresses, KUBELET_PORT, *keys))
            if settings.routes != "none":
                group.create_task(PodRoutes(client, me.name, settings.routes).run())
            if settings.manifests:
                group.create_task(StaticPods(pods, me.name, settings.manifests).run())
            await pods.synced.wait()
            await kubelet.adopt(pods)
            pods.subscribe(kubelet.changed)
