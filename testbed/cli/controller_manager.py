"""The controllers and the scheduler, as one process.

    testbed controller-manager --kubeconfig cm.kubeconfig --cluster-cidr 10.244.0.0/16 \\
        --service-cluster-ip-range 10.96.0.0/12
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.errors import UsageError
from testbed.model.families import listed, networks, overlap
from testbed.model.topology import DEFAULT_CLUSTER_CIDRS, DEFAULT_NODE_GRACE, DEFAULT_SERVICE_CIDRS

if TYPE_CHECKING:
    from testbed.client.pki import Authority


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    parser.add_argument(
        "--cluster-cidr",
        default=listed(DEFAULT_CLUSTER_CIDRS),
        metavar="CIDR[,CIDR]",
        help="the ranges of Pod addresses, primary family first",
    )
    parser.add_argument(
        "--service-cluster-ip-range",
        default=listed(DEFAULT_SERVICE_CIDRS),
        metavar="CIDR[,CIDR]",
        help="the ranges of ClusterIPs",
    )
    parser.add_argument(
        "--node-monitor-grace-period",
        default=f"{DEFAULT_NODE_GRACE:.0f}s",
        metavar="DURATION",
        help="how long a node may be silent before it counts as lost (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster-signing-cert-file", default="", metavar="FILE", help="signs what kubelets ask for"
    )
    parser.add_argument("--cluster-signing-key-file", default="", metavar="FILE", help="its key")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from testbed.controllers import process
    from testbed.model.duration import seconds

    pods = networks(args.cluster_cidr, "--cluster-cidr")
    services = networks(args.service_cluster_ip_range, "--service-cluster-ip-range")
    if found := overlap(pods, services):
        raise UsageError(
            f"--cluster-cidr {found[0]} overlaps --service-cluster-ip-range {found[1]}; "
            "choose ranges that are disjoint"
        )
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    signing = _authority(args.cluster_signing_cert_file, args.cluster_signing_key_file)
    grace = seconds(args.node_monitor_grace_period)
    asyncio.run(process.run(args.kubeconfig, pods, grace, signing))
    return 0


def _authority(certificate: str, key: str) -> Authority | None:
    """The authority in these two files; None when none is named. Raises UsageError."""
    from testbed.client import pki

    if not certificate and not key:
        return None
    try:
        return pki.read_authority(Path(certificate), Path(key))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--cluster-signing-cert-file {certificate}, --cluster-signing-key-file {key}: {error}"
        ) from None
