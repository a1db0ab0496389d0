"""What `up` puts into every cluster through its API, not waiting for it: DNS, ingress, the agents' Pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from testbed.client import AlreadyExists, Client
from testbed.controllers import ingress
from testbed.ingress import routes
from testbed.lab.cluster import Cluster
from testbed.lab.credentials import DNS_KUBECONFIG, INGRESS_KUBECONFIG
from testbed.lab.units import NO_PROXY, PROXY
from testbed.model.resources import DAEMON_SETS, DEPLOYMENTS, INGRESS_CLASSES, SERVICES, Resource

Object = dict[str, Any]

NAMESPACE = "kube-system"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
DNS_LABELS = {"k8s-app": "kube-dns"}
DNS_PORTS = (("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"))
INGRESS = ingress.NAME
INGRESS_LABELS = {"app.kubernetes.io/name": INGRESS}
INGRESS_PORTS = (("http", 80, "TCP"), ("https", 443, "TCP"))

Ports = Sequence[tuple[str, int, str]]


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
        (INGRESS_CLASSES, _ingress_class()),
        (SERVICES, _service(INGRESS, INGRESS_LABELS, INGRESS_PORTS)),
        (DEPLOYMENTS, _ingress_deployment(cluster)),
    ]


def _dns_service(cluster: Cluster) -> Object:
    labels = {**DNS_LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "KubeDNS"}
    made = _service("kube-dns", DNS_LABELS, DNS_PORTS)
    made["metadata"]["labels"] = labels
    made["spec"]["clusterIPs"] = list(map(str, cluster.spec.dns_addresses))
    made["spec"]["clusterIP"] = made["spec"]["clusterIPs"][0]
    made["spec"]["ipFamilyPolicy"] = "PreferDualStack"
    return made


def _dns_deployment(cluster: Cluster) -> Object:
    flags = [f"--kubeconfig={cluster.state.path / DNS_KUBECONFIG}", "--domain=cluster.local"]
    container = {"name": "dns", "image": "testbed/dns", "args": flags}
    return _deployment("kube-dns", DNS_LABELS, container, DNS_PORTS)


def _ingress_class() -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx", "annotations": {routes.IS_DEFAULT: "true"}},
        "spec": {"controller": routes.CONTROLLER},
    }


def _ingress_deployment(cluster: Cluster) -> Object:
    """Without a Pod until there is an Ingress."""
    flags = [f"--kubeconfig={cluster.state.path / INGRESS_KUBECONFIG}"]
    container = {"name": "nginx", "image": "testbed/ingress", "args": flags}
    made = _deployment(INGRESS, INGRESS_LABELS, container, INGRESS_PORTS, replicas=0)
    made["metadata"]["annotations"] = {ingress.ASLEEP: "until there is an Ingress"}
    return made


def _service(name: str, labels: Mapping[str, str], ports: Ports) -> Object:
    listed = [
        {"name": name, "port": port, "targetPort": name, "protocol": kind} for name, port, kind in ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(labels)},
        "spec": {"selector": dict(labels), "ports": listed},
    }


def _deployment(
    name: str, labels: Mapping[str, str], container: Object, ports: Ports, replicas: int = 1
) -> Object:
    """On the control plane, so that what is measured on the other nodes is theirs alone."""
    listed = [{"name": name, "containerPort": port, "protocol": kind} for name, port, kind in ports]
    template = {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "containers": [{**container, "ports": listed}],
            "dnsPolicy": "Default",
            "nodeSelector": {CONTROL_PLANE: ""},
            "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "system-cluster-critical",
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(labels)},
        "spec": {"replicas": replicas, "selector": {"matchLabels": dict(labels)}, "template": template},
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
