"""A fleet as a `ClusterSpec`: what its API tells of nodes, addresses and ranges."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from testbed.client import Client
from testbed.errors import UsageError
from testbed.model.conditions import condition
from testbed.model.families import Address, Network
from testbed.model.resources import NODES, SERVICE_CIDRS
from testbed.model.topology import ClusterSpec, NodeSpec

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"

Object = dict[str, Any]


@dataclass(frozen=True)
class FleetSpec(ClusterSpec):
    """A fleet's nodes, the control plane first. `outside`: the addresses of the machine that stands for the
    client outside, one of each family.

    The Pod range is the smallest that holds all nodes': the API does not tell what it was made from.
    """

    outside: tuple[Address, ...] = ()

    @property
    def client_addresses(self) -> tuple[Address, ...]:
        return self.outside


def read(kubeconfig: Path) -> FleetSpec:
    """The nodes that are Ready. Raises ApiError, and UsageError where no control plane is labelled."""
    return asyncio.run(_read(kubeconfig))


async def _read(kubeconfig: Path) -> FleetSpec:
    async with Client.from_kubeconfig(kubeconfig) as client:
        nodes = (await client.list(NODES)).items
        ranges = (await client.list(SERVICE_CIDRS)).items
    return described(nodes, [cidr for one in ranges for cidr in one["spec"]["cidrs"]])


def described(nodes: Iterable[Object], service_cidrs: Iterable[str]) -> FleetSpec:
    """The spec that these objects tell of. Raises UsageError when no node has the control plane's label."""
    ready = [node for node in nodes if (condition(node, "Ready") or {}).get("status") == "True"]
    planes = [node for node in ready if CONTROL_PLANE_LABEL in (node["metadata"].get("labels") or {})]
    if not planes:
        raise UsageError(f"no node that is Ready has the label {CONTROL_PLANE_LABEL}: which is the first?")
    specs = tuple(_node(node) for node in [planes[0], *(one for one in ready if one is not planes[0])])
    return FleetSpec(
        name="fleet",
        cluster_cidrs=tuple(
            _around(column) for column in zip(*(one.pod_cidrs for one in specs), strict=True)
        ),
        service_cidrs=tuple(ip_network(cidr) for cidr in service_cidrs),
        nodes=specs,
        outside=specs[0].addresses,
    )


def _node(node: Object) -> NodeSpec:
    meta, status = node["metadata"], node.get("status") or {}
    addresses = [one["address"] for one in status.get("addresses") or () if one["type"] == "InternalIP"]
    cidrs = node["spec"].get("podCIDRs") or ()
    return NodeSpec(
        meta["name"],
        tuple(ip_address(one) for one in addresses),
        tuple(ip_network(one) for one in cidrs),
        labels=dict(meta.get("labels") or {}),
    )


def _around(networks: Iterable[Network]) -> Network:
    """The smallest network that holds all of these."""
    every = list(networks)
    found = every[0]
    while not all(one.network_address in found for one in every):
        found = found.supernet()
    return found
