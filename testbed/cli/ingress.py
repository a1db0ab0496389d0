"""The ingress controller, image `testbed/ingress`: an nginx that serves the cluster's Ingresses.

    testbed ingress --kubeconfig ingress.kubeconfig --publish-service kube-system/ingress-nginx

It takes Ingresses of the classes whose controller is testbed/ingress-nginx.
"""

from __future__ import annotations

import argparse
import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    add(
        "--publish-service",
        default="kube-system/ingress-nginx",
        metavar="NAMESPACE/NAME",
        help="the Service whose address goes into the Ingresses' status (%(default)s)",
    )
    add("--directory", default="/var/lib/nginx/ingress", help="for nginx's files (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import asyncio
    from pathlib import Path

    from testbed.errors import TestbedError
    from testbed.ingress import process

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        asyncio.run(process.run(args.kubeconfig, Path(args.directory), args.publish_service))
    except* TestbedError as group:
        raise group.exceptions[0] from None
    return 0
