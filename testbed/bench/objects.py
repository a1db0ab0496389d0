"""The API objects of a benchmark: backends, clients, and Services that all lead to the same real backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

NAMESPACE = "default"
PORT = 80
SERVER_NODE = "server"


def pod(name: str, node: str, image: str) -> Object:
    """A Pod bound to its node from the start; no scheduler is asked."""
    container = {"name": "main", "image": image, "ports": [{"containerPort": PORT}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
        },
    }


def service_name(index: int) -> str:
    return f"service-{index:05d}"


def service(index: int) -> Object:
    """A Service without selector: its EndpointSlice is written by hand, see `slice_`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(index), "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]},
    }


def slice_(index: int, backends: Sequence[tuple[str, str]]) -> Object:
    """The EndpointSlice of a Service: one endpoint, the backends (address, node) taken in turn."""
    address, node = backends[index % len(backends)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service_name(index),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": service_name(index),
                "endpointslice.kubernetes.io/managed-by": "testbed-bench",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": node, "conditions": {"ready": True}}],
    }
