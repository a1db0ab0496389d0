"""The node agent: runs the Pods bound to its node, on a machine whose init is a testbed's.

    testbed kubelet --kubeconfig node01.kubeconfig --hostname-override node01 --node-ip 172.30.0.11 \\
        --pod-cidr 10.244.1.0/24 --cluster-dns 10.96.0.10 --cluster-domain cluster.local
"""

from __future__ import annotations

import argparse
import logging
import socket
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from testbed.errors import UsageError
from testbed.model.families import networks

ROUTES = ("auto", "host-gw", "vxlan", "none")
CNI_PROGRAMS = "/opt/cni/bin:/usr/lib/cni"
"""Where most distributions of Kubernetes have them, and where Debian does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    add("--hostname-override", default=socket.gethostname(), metavar="NAME", help="the node's name")
    add("--node-ip", required=True, metavar="ADDRESS[,ADDRESS]", help="its own address of each family")
    add(
        "--pod-cidr", default="", metavar="CIDR[,CIDR]", help="ranges of its Pods; default: those it is given"
    )
    add("--pod-routes", default="none", choices=ROUTES, help="to other nodes' Pods; default: somebody's else")
    add("--bootstrap-kubeconfig", default="", metavar="FILE", help="with a token, for the first start")
    add("--cert-dir", default="/var/lib/kubelet/pki", metavar="DIR", help="for certificates asked for")
    add("--cluster-dns", default="", metavar="ADDRESS,…", help="the name servers of Pods")
    add("--cluster-domain", default="cluster.local", metavar="NAME", help="the domain of Services")
    add("--image", action="append", default=[], metavar="GLOB=PATH", help="the program of an image")
    add("--register-with-taints", default="", metavar="KEY=VALUE:EFFECT,…", help="taints of the node")
    add("--node-labels", action="append", default=[], metavar="KEY=VALUE,…", help="labels of the node")
    add("--node-status-update-frequency", default="10s", metavar="DURATION", help="between heartbeats")
    add("--runtime-socket", default="/run/init.sock", metavar="FILE", help="the socket of the init")
    add("--cni-conf-dir", default="/etc/cni/net.d", metavar="DIR", help="where the conf list is")
    add("--cni-conf", default="", metavar="FILE", help="a conf list to put there; none: our own bridge")
    add("--cni-bin-dir", default=CNI_PROGRAMS, metavar="DIR[:DIR]", help="where CNI plugins are")
    add("--root-dir", default="/var/lib/kubelet", metavar="DIR", help="what must outlive the agent")
    add("--pod-manifest-path", default="", metavar="DIR", help="where manifests of static Pods are")
    add("--pod-max-pids", type=int, default=-1, metavar="N", help="processes of a Pod; -1: no limit")
    add("--container-log-max-size", default="10Mi", metavar="BYTES", help="of a file of a container's log")
    add("--container-log-max-files", type=int, default=5, metavar="N", help="as many are kept")
    add("--tls-cert-file", default="", metavar="FILE", help="certificate of port 10250; none: no port")
    add("--tls-private-key-file", default="", metavar="FILE", help="its key")
    add("--client-ca-file", default="", metavar="FILE", help="who may use that port")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from testbed.model.duration import seconds
    from testbed.node import kubelet, registration
    from testbed.node.images import parse_mapping
    from testbed.node.registration import Identity, parse_labels, parse_taints
    from testbed.node.sandbox import Dns

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    me = Identity(
        name=args.hostname_override,
        addresses=_addresses("--node-ip", args.node_ip),
        pod_cidrs=networks(args.pod_cidr, "--pod-cidr") if args.pod_cidr else (),
        labels=parse_labels(",".join(args.node_labels)),
        taints=parse_taints(args.register_with_taints),
        heartbeat=seconds(args.node_status_update_frequency),
    )
    if args.bootstrap_kubeconfig:
        asyncio.run(_bootstrap(args))
    if not args.pod_cidr:
        given = asyncio.run(registration.given_range(args.kubeconfig, me))
        me = replace(me, pod_cidrs=networks(given, "the Node's podCIDRs"))
    settings = kubelet.Settings(
        kubeconfig=args.kubeconfig,
        me=me,
        routes=args.pod_routes,
        dns=Dns(_addresses("--cluster-dns", args.cluster_dns), args.cluster_domain),
        images=[parse_mapping(text) for text in args.image],
        runtime_socket=args.runtime_socket,
        cni_configurations=Path(args.cni_conf_dir),
        cni_conf=args.cni_conf,
        cni_programs=[Path(each) for each in args.cni_bin_dir.split(":")],
        root=Path(args.root_dir),
        certificate=args.tls_cert_file,
        key=args.tls_private_key_file,
        client_ca=args.client_ca_file,
        most_pids=max(0, args.pod_max_pids),
        manifests=Path(args.pod_manifest_path) if args.pod_manifest_path else None,
        log_bytes=_bytes(args.container_log_max_size) * args.container_log_max_files,
    )
    asyncio.run(kubelet.run(settings))
    return 0


def _addresses(flag: str, text: str) -> list[str]:
    """Addresses with commas between them. Raises UsageError."""
    from testbed.errors import UsageError

    try:
        return [str(ip_address(part.strip())) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"{flag}: {error}; give IP addresses") from None


async def _bootstrap(args: argparse.Namespace) -> None:
    """Come to the certificates that are missing, with the token of --bootstrap-kubeconfig."""
    from testbed.node import bootstrap

    await bootstrap.join(args.bootstrap_kubeconfig, Path(args.kubeconfig), args.hostname_override)
    if not args.tls_cert_file:
        hosts = (args.hostname_override, *_addresses("--node-ip", args.node_ip))
        certificate, key = await bootstrap.serving(Path(args.kubeconfig), Path(args.cert_dir), hosts)
        args.tls_cert_file, args.tls_private_key_file = str(certificate), str(key)


def _bytes(text: str) -> int:
    from testbed.model import quantity

    try:
        return int(quantity.parse(text))
    except ValueError:
        raise UsageError(f"--container-log-max-size {text!r} is no size; write 10Mi, for example") from None
