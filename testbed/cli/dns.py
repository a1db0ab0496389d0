"""The cluster DNS, image `testbed/dns`: names of Services and Pods, by the Kubernetes DNS specification.

    testbed dns --kubeconfig dns.kubeconfig --port 5300 &
    dig @127.0.0.1 -p 5300 kubernetes.default.svc.cluster.local

Names outside the cluster's domain are passed on to the --forward of the longest domain, or refused. A
ConfigMap says so too, in the form of Kubernetes' "Customizing DNS Service": `stubDomains` and
`upstreamNameservers`.
"""

from __future__ import annotations

import argparse
import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    add("--domain", default="cluster.local", metavar="NAME", help="the cluster's domain (%(default)s)")
    add(
        "--bind-address", default="::", metavar="ADDRESS", help="where to listen (%(default)s, IPv4 included)"
    )
    add("--port", type=int, default=53, metavar="PORT", help="UDP and TCP (%(default)s)")
    add(
        "--forward",
        action="append",
        default=[],
        metavar="[DOMAIN=]ADDRESS[:PORT]",
        help="who answers for other names, or for those below DOMAIN; may be repeated",
    )
    add(
        "--config-map",
        default="kube-system/kube-dns",
        metavar="NAMESPACE/NAME",
        help="has stubDomains and upstreamNameservers, followed as they change (%(default)s)",
    )
    add("--ttl", type=int, default=5, metavar="SECONDS", help="how long answers last (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from testbed.dns import process
    from testbed.dns.server import Upstream

    upstreams = [Upstream.parse(text) for text in args.forward]
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    domain = args.domain.strip(".").lower()
    place = (args.bind_address, args.port)
    asyncio.run(process.run(args.kubeconfig, domain, *place, upstreams, args.ttl, args.config_map))
    return 0
