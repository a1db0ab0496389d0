"""The API objects of a benchmark: backends, clients, and Services that all lead to the same real backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from testbed.bench import tools

Object = dict[str, Any]

NAMESPACE = "default"
PORT = 80
SERVER_NODE = "server"
BACKEND_CONFIG = "bench-nginx"
WRITTEN = "endpoints.kubernetes.io/last-change-trigger-time"
"""The annotation from which agents compute network programming latency."""

HTTP = {"http": ("TCP", PORT)}
TOOLS = {"stream": ("TCP", tools.STREAM_PORT), "echo": ("UDP", tools.ECHO_PORT)}
"""The ports of the Service for iperf3 and sockperf."""

NGINX = """\
user www-data;
worker_processes 1;
worker_rlimit_nofile 65536;
pid /var/lib/nginx/nginx.pid;
error_log stderr;
events { worker_connections 32768; }
http {
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 3600;
    server { listen 80 backlog=8192; location / { return 200 "a page of thirty-two bytes, all.\\n"; } }
}
"""
"""Room for many connections, and nothing read from disks."""


def config_map() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": BACKEND_CONFIG, "namespace": NAMESPACE},
        "data": {"nginx.conf": NGINX},
    }


def pod(name: str, node: str, image: str, host_network: bool = False) -> Object:
    """A Pod bound to its node from the start; no scheduler is asked."""
    container: Object = {"name": "main", "image": image, "ports": [{"containerPort": PORT}]}
    volumes: list[Object] = []
    if image == "nginx":
        path = "/etc/nginx/nginx.conf"
        container["volumeMounts"] = [{"name": "conf", "mountPath": path, "subPath": "nginx.conf"}]
        volumes.append({"name": "conf", "configMap": {"name": BACKEND_CONFIG}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "containers": [container],
            "volumes": volumes,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
        },
    }


def inside(namespace: str, obj: Object) -> Object:
    """An object of this module in another namespace."""
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def service_name(index: int) -> str:
    return f"service-{index:05d}"


def service(name: str, ports: Mapping[str, tuple[str, int]] = HTTP, type_: str = "ClusterIP") -> Object:
    """A Service without selector: its EndpointSlice is written by hand, see `slice_`."""
    listed = [
        {"name": port, "port": number, "targetPort": number, "protocol": protocol}
        for port, (protocol, number) in ports.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"type": type_, "ports": listed},
    }


def slice_(
    name: str,
    backends: Sequence[tuple[str, str]],
    ports: Mapping[str, tuple[str, int]] = HTTP,
) -> Object:
    """The EndpointSlice of a Service: `backends` are (address, node). It says when it was written."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {WRITTEN: now},
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "testbed-bench",
            },
        },
        "addressType": "IPv4",
        "ports": [
            {"name": port, "port": number, "protocol": protocol} for port, (protocol, number) in ports.items()
        ],
        "endpoints": [
            {"addresses": [address], "nodeName": node, "conditions": {"ready": True}}
            for address, node in backends
        ],
    }


def shared(backends: Sequence[tuple[str, str]], index: int, count: int) -> list[tuple[str, str]]:
    """The `count` endpoints of the Service at `index`: the backends taken in turn."""
    return [backends[(index + number) % len(backends)] for number in range(count)]
