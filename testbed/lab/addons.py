"""What `up` puts into every cluster through its API, and does not wait for: DNS, and Pods for the proxies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from testbed.client import AlreadyExists, Client
from testbed.lab.cluster import Cluster
from testbed.lab.credentials import DNS_KUBECONFIG
from testbed.lab.units import NO_PROXY, PROXY
from testbed.model.resources import DAEMON_SETS, DEPLOYMENTS, SERVICES, Resource

Object = dict[str, Any]

NAMESPACE = "kube-system"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
DNS_LABELS = {"k8s-app": "kube-dns"}
PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def install(cluster: Cluster) -> None:
    """Create the add-ons. Their Pods come up by themselves."""
    asyncio.run(_create(cluster))


async def _create(cluster: Cluster) -> None:
    async with Client.from_kubeconfig(cluster.kubeconfig) as client:
        for resource, obj in manifests(cluster):
            with contextlib.suppress(AlreadyExists):
                await client.create(resource, obj)


def manifests(cluster: Cluster) -> list[tuple[Resource, Object]]:
    return [
        (SERVICES, _dns_service(cluster)),
        (DEPLOYMENTS, _dns_deployment(cluster)),
        (DAEMON_SETS, _proxies(cluster)),
    ]


def _dns_service(cluster: Cluster) -> Object:
    labels = {**DNS_LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "KubeDNS"}
    ports = [{"name": name, "port": 53, "targetPort": name, "protocol": protocol} for name, protocol in PORTS]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "clusterIP": str(cluster.spec.dns_address),
            "selector": DNS_LABELS,
            "ports": ports,
        },
    }


def _dns_deployment(cluster: Cluster) -> Object:
    """On the control plane, so that what is measured on the other nodes is theirs alone."""
    container = {
        "name": "dns",
        "image": "testbed/dns",
        "args": [f"--kubeconfig={cluster.state.path / DNS_KUBECONFIG}", "--domain=cluster.local"],
        "ports": [{"name": name, "containerPort": 53, "protocol": protocol} for name, protocol in PORTS],
    }
    template = {
        "metadata": {"labels": DNS_LABELS},
        "spec": {
            "containers": [container],
            "dnsPolicy": "Default",
            "nodeSelector": {CONTROL_PLANE: ""},
            "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "system-cluster-critical",
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": DNS_LABELS},
        "spec": {"replicas": 1, "selector": {"matchLabels": DNS_LABELS}, "template": template},
    }


def _proxies(cluster: Cluster) -> Object:
    """A Pod for the proxy agent of each node. The agents are units of the machines, so that they can be
    replaced while the API is down; the Pods stand for them, show their logs, and restart them when deleted.
    """
    labels = {"k8s-app": PROXY}
    without = [node.name for node in cluster.spec.nodes if cluster.spec.mode_of(node) == NO_PROXY]
    expression = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": without}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    spec: Object = {
        "hostNetwork": True,
        "containers": [{"name": PROXY, "image": "testbed/kube-proxy"}],
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-node-critical",
    }
    if without:
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": PROXY, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
