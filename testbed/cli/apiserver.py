"""The API server of a cluster: Kubernetes' REST and watch protocol over TLS, state in one SQLite file.

The flags are kube-apiserver's, and mean the same; --db and --listen-fd are its own.

example:
  testbed apiserver --db /var/lib/testbed/api.db --advertise-address 192.0.2.10 --secure-port 6443 \\
    --tls-cert-file pki/apiserver.crt --tls-private-key-file pki/apiserver.key --client-ca-file pki/ca.crt \\
    --service-cluster-ip-range 10.96.0.0/12 --service-node-port-range 30000-32767
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.model.families import listed, networks, overlap
from testbed.model.topology import API_PORT, DEFAULT_SERVICE_CIDRS, PortRange

if TYPE_CHECKING:
    from testbed.api.server import Settings

COLLECT_EVERY = (50_000, 20, 100)
"""Of the garbage collector: what is stored is in no cycle, and looking it all over takes time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--db", type=Path, required=True, metavar="PATH", help="the SQLite file with all state")
    add(
        "--advertise-address",
        metavar="IP",
        help="where the cluster reaches this server (default: --bind-address)",
    )
    add("--bind-address", default="0.0.0.0", metavar="IP", help="address to listen on (default: %(default)s)")
    add("--secure-port", type=int, default=API_PORT, metavar="PORT", help="TLS port (default: %(default)s)")
    add(
        "--listen-fd",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="also serve this inherited socket",
    )
    add(
        "--service-cluster-ip-range",
        default=listed(DEFAULT_SERVICE_CIDRS),
        metavar="CIDR[,CIDR]",
        help="ClusterIPs, one range or one of each IP family, the primary first (default: %(default)s)",
    )
    add("--service-node-port-range", default=str(PortRange()), metavar="A-B", help="node ports")
    add(
        "--cluster-cidr",
        default="",
        metavar="CIDR[,CIDR]",
        help="the Pods' ranges; they must not overlap the Services'",
    )
    add("--tls-cert-file", type=Path, required=True, metavar="FILE", help="serving certificate")
    add("--tls-private-key-file", type=Path, required=True, metavar="FILE", help="its key")
    add("--client-ca-file", type=Path, metavar="FILE", help="authority of client certificates")
    add("--token-auth-file", type=Path, metavar="FILE", help="bearer tokens: token,user,uid,groups")
    add("--kubelet-client-certificate", type=Path, metavar="FILE", help="shown to kubelets")
    add("--kubelet-client-key", type=Path, metavar="FILE", help="its key")
    add("--service-account-key-file", type=Path, metavar="FILE", help="accepted; the signing key has it too")
    add("--service-account-signing-key-file", type=Path, metavar="FILE", help="signs service-account tokens")
    add("--max-watches", type=int, default=10_000, metavar="N", help="watches open at once; 0: any number")
    add("--max-requests-inflight", type=int, default=400, metavar="N", help="reads at once; 0: any number")
    add("--max-mutating-requests-inflight", type=int, default=200, metavar="N", help="writes at once")
    add("--event-ttl", default="1h", metavar="DURATION", help="how long Events last (default: %(default)s)")
    add("--authorization-mode", default="", metavar="MODES", help="accepted; it is Node,RBAC")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM. Raises UsageError for what the flags get wrong."""
    import asyncio
    import gc
    import logging

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    from testbed.api.server import Server

    server = Server(_settings(args))
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
    asyncio.run(server.run())
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from ipaddress import ip_address

    from testbed.api.auth import read_tokens
    from testbed.api.server import Settings
    from testbed.errors import UsageError
    from testbed.model.duration import seconds

    services = networks(args.service_cluster_ip_range, "--service-cluster-ip-range")
    pods = networks(args.cluster_cidr, "--cluster-cidr") if args.cluster_cidr else ()
    if found := overlap(services, pods):
        raise UsageError(
            f"--service-cluster-ip-range {found[0]} overlaps --cluster-cidr {found[1]}; "
            "choose ranges that are disjoint"
        )
    try:
        advertise = ip_address(args.advertise_address or args.bind_address)
    except ValueError as error:
        raise UsageError(f"--advertise-address: {error}; give an IP address") from None
    return Settings(
        db=args.db,
        certificate=args.tls_cert_file,
        key=args.tls_private_key_file,
        client_ca=args.client_ca_file,
        kubelet_certificate=args.kubelet_client_certificate,
        kubelet_key=args.kubelet_client_key,
        signing_key=args.service_account_signing_key_file,
        bind_address=args.bind_address,
        port=args.secure_port,
        listen_fds=args.listen_fd,
        advertise=advertise,
        services=services,
        node_ports=PortRange.parse(args.service_node_port_range),
        most_reads=args.max_requests_inflight,
        most_watches=args.max_watches,
        most_writes=args.max_mutating_requests_inflight,
        event_ttl=seconds(args.event_ttl),
        tokens=read_tokens(args.token_auth_file) if args.token_auth_file else {},
    )
