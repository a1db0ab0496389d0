"""The controller-manager process: all controllers of the table on one loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from testbed.client import Client
from testbed.client.pki import Authority
from testbed.controllers.aggregation import ClusterRoleAggregation
from testbed.controllers.base import Controller, World
from testbed.controllers.certificates import Certificates
from testbed.controllers.daemonset import DaemonSets
from testbed.controllers.deployment import Deployments
from testbed.controllers.disruption import Disruption
from testbed.controllers.endpoints import EndpointsController
from testbed.controllers.endpointslice import EndpointSlices
from testbed.controllers.eviction import TaintEviction
from testbed.controllers.garbage import GarbageCollector
from testbed.controllers.ingress import IngressWaker
from testbed.controllers.job import Jobs
from testbed.controllers.loadbalancer import LoadBalancers
from testbed.controllers.mirroring import EndpointSliceMirroring
from testbed.controllers.namespace import NamespaceController
from testbed.controllers.nodes import NodeLifecycle
from testbed.controllers.podcidr import PodRanges
from testbed.controllers.replicas import ReplicaSets, ReplicationControllers
from testbed.controllers.scheduler import Scheduler
from testbed.controllers.serviceaccounts import NamespaceContents
from testbed.controllers.statefulset import StatefulSets
from testbed.model.families import Network

log = logging.getLogger(__name__)

CONTROLLERS: tuple[type[Controller], ...] = (
    Deployments,
    ReplicaSets,
    ReplicationControllers,
    DaemonSets,
    StatefulSets,
    Jobs,
    Scheduler,
    EndpointsController,
    EndpointSlices,
    EndpointSliceMirroring,
    LoadBalancers,
    IngressWaker,
    PodRanges,
    Disruption,
    ClusterRoleAggregation,
    NodeLifecycle,
    TaintEviction,
    NamespaceController,
    NamespaceContents,
    GarbageCollector,
)


async def run(
    kubeconfig: str,
    cluster_cidrs: Sequence[Network],
    grace_period: float,
    signing: Authority | None = None,
) -> None:
    """Run for ever. `signing`: the authority for certificates that kubelets ask for; None: they wait.

    Raises UsageError when the kubeconfig is unusable.
    """
    async with Client.from_kubeconfig(kubeconfig, "kube-controller-manager") as client:
        world = World(client, cluster_cidrs, grace_period)
        controllers = [kind(world) for kind in CONTROLLERS]
        if signing:
            controllers.append(Certificates(world, signing))
        async with asyncio.TaskGroup() as group:
            group.create_task(world.run_informers())
            await world.synced()
            log.info("informers are synced; starting %s", ", ".join(each.name for each in controllers))
            for controller in controllers:
                group.create_task(controller.run())
