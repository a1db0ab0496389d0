"""From a CLUSTER.yaml and the command line to a checked ClusterSpec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.errors import UsageError
from testbed.model.duration import seconds
from testbed.model.families import Network, listed, networks, of_version
from testbed.model.topology import (
    DEFAULT_CLUSTER_CIDRS,
    DEFAULT_NODE_GRACE,
    DEFAULT_SERVICE_CIDRS,
    IPVS_SCHEDULERS,
    ClusterSpec,
    NodeWish,
    PortRange,
    plan,
)
from testbed.node.cni import read_conf_list

KEYS = {
    "name": "name",
    "clusterCIDR": "cluster_cidrs",
    "serviceClusterIPRange": "service_cidrs",
    "serviceNodePortRange": "node_ports",
    "proxyMode": "proxy_mode",
    "proxyCommand": "proxy_command",
    "iptables": "iptables",
    "ipvsScheduler": "ipvs_scheduler",
    "nodeMonitorGracePeriod": "node_grace",
    "images": "images",
    "cniConf": "cni_conf",
    "nodes": "nodes",
}
"""The keys of a CLUSTER.yaml, with the names used here."""

IPTABLES_CHOICES = ("auto", "nft", "legacy")
DEFAULT_NODES = 2


def load(path: str) -> dict[str, Any]:
    """A CLUSTER.yaml as wishes for `resolve`. Raises UsageError for a file that is no such thing."""
    try:
        document = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a mapping is expected, with keys of {', '.join(KEYS)}")
    for key in document:
        if key not in KEYS:
            raise UsageError(f"{path}: unknown key {key!r}; known are {', '.join(KEYS)}")
    return {KEYS[key]: value for key, value in document.items()}


def resolve(wishes: Mapping[str, Any], modes: tuple[str, ...]) -> ClusterSpec:
    """A checked spec. `modes` are the proxy modes there are. Raises UsageError."""
    pods, services = _ranges(wishes.get("cluster_cidrs"), wishes.get("service_cidrs"))
    spec = ClusterSpec(
        name=str(wishes.get("name") or "testbed"),
        cluster_cidrs=pods,
        service_cidrs=services,
        node_ports=PortRange.parse(str(wishes.get("node_ports") or PortRange())),
        proxy_mode=str(wishes.get("proxy_mode") or "iptables"),
        ipvs_scheduler=str(wishes.get("ipvs_scheduler") or "rr"),
        iptables=str(wishes.get("iptables") or "auto"),
        proxy_command=str(wishes.get("proxy_command") or ""),
        node_grace=seconds(str(wishes.get("node_grace") or f"{DEFAULT_NODE_GRACE:g}s")),
        images=dict(wishes.get("images") or {}),
        cni_conf=_cni_conf(str(wishes.get("cni_conf") or "")),
    )
    nodes = _nodes(wishes.get("nodes"))
    for mode in (spec.proxy_mode, *(node.proxy_mode for node in nodes)):
        if mode and mode not in modes and not spec.proxy_command:
            raise UsageError(f"unknown proxy mode {mode!r}; known are {', '.join(modes)}")
    if spec.ipvs_scheduler not in IPVS_SCHEDULERS:
        known = ", ".join(IPVS_SCHEDULERS)
        raise UsageError(f"IPVS scheduler {spec.ipvs_scheduler!r} is unknown; choose one of {known}")
    if spec.iptables not in IPTABLES_CHOICES:
        raise UsageError(f"iptables {spec.iptables!r} is not one of {', '.join(IPTABLES_CHOICES)}")
    return plan(spec, nodes)


def _ranges(pods: Any, services: Any) -> tuple[tuple[Network, ...], tuple[Network, ...]]:
    """The Pod and the Service ranges; if only one is given, the other's default has its families."""
    cluster = networks(_joined(pods), "Pod range") if pods else ()
    service = networks(_joined(services), "Service range") if services else ()
    versions = [each.version for each in cluster or service or DEFAULT_CLUSTER_CIDRS]
    return (
        cluster or tuple(of_version(DEFAULT_CLUSTER_CIDRS, version) for version in versions),
        service or tuple(of_version(DEFAULT_SERVICE_CIDRS, version) for version in versions),
    )


def _cni_conf(path: str) -> str:
    """The path of a conf list, whole. Raises UsageError for a file that is none."""
    if not path:
        return ""
    read_conf_list(Path(path))
    return str(Path(path).absolute())


def _joined(value: Any) -> str:
    """A list in YAML is as good as text with commas."""
    return listed(value) if isinstance(value, list) else str(value)


def _nodes(value: Any) -> tuple[NodeWish, ...]:
    if value is None:
        value = DEFAULT_NODES
    if isinstance(value, int):
        return tuple(NodeWish(f"node{i:02d}") for i in range(1, value + 1))
    if not isinstance(value, list):
        raise UsageError("nodes: a number, or a list of {name, proxyMode, labels}, is expected")
    wishes = []
    for i, entry in enumerate(value, 1):
        if not isinstance(entry, dict) or set(entry) - {"name", "proxyMode", "labels"}:
            raise UsageError(f"nodes[{i - 1}]: a mapping of name, proxyMode and labels is expected")
        labels = {str(key): str(value) for key, value in (entry.get("labels") or {}).items()}
        wishes.append(
            NodeWish(str(entry.get("name") or f"node{i:02d}"), str(entry.get("proxyMode") or ""), labels)
        )
    return tuple(wishes)
