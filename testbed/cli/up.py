"""Bring up a cluster: a control plane and K nodes as namespaces, joined by a bridge, and a client outside.

Returns when the nodes are Ready.

    testbed up --nodes 2 --proxy-mode iptables
    testbed kubectl -- apply -f examples/nginx.yaml
    testbed down
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from testbed.errors import UsageError

WISHES = (
    "name",
    "nodes",
    "proxy_mode",
    "cluster_cidrs",
    "service_cidrs",
    "node_ports",
    "iptables",
    "ipvs_scheduler",
    "proxy_command",
    "cni_conf",
    "node_grace",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", dest="file", metavar="CLUSTER.yaml", help="read the cluster from a file")
    parser.add_argument("--name", help="cluster name (default testbed)")
    parser.add_argument(
        "--nodes", type=int, metavar="K", help="number of nodes besides the control plane (2)"
    )
    parser.add_argument(
        "--proxy-mode",
        metavar="M",
        help="iptables (default), ipvs, nftables, userspace, userspace-haproxy or none",
    )
    parser.add_argument(
        "--cluster-cidr",
        dest="cluster_cidrs",
        metavar="CIDR[,CIDR]",
        help="Pod ranges, one or one of each IP family, the primary first (10.244.0.0/16,fd00:10:244::/56)",
    )
    parser.add_argument(
        "--service-cluster-ip-range",
        dest="service_cidrs",
        metavar="CIDR[,CIDR]",
        help="Service ranges, likewise (10.96.0.0/12,fd00:10:96::/112)",
    )
    parser.add_argument(
        "--service-node-port-range", dest="node_ports", metavar="A-B", help="node ports (30000-32767)"
    )
    parser.add_argument("--ipvs-scheduler", metavar="S", help="rr (default), wrr, lc, sh, …")
    parser.add_argument("--iptables", choices=("auto", "nft", "legacy"), help="iptables variant on the nodes")
    parser.add_argument(
        "--node-monitor-grace-period",
        dest="node_grace",
        metavar="DURATION",
        help="how long a node may be silent before it counts as lost (40s)",
    )
    parser.add_argument(
        "--proxy-command",
        metavar="CMD",
        help="run this in place of the agent; {kubeconfig}, {node} and {mode} are filled in",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="GLOB=PATH",
        help="run PATH for images that match GLOB",
    )
    parser.add_argument("--cni-conf", metavar="FILE", help="the conf list of CNI plugins for Pods' networks")
    parser.add_argument(
        "--api-port", type=int, default=0, help="the API server's port on 127.0.0.1 (6443, or a free one)"
    )
    parser.add_argument("--env", choices=("native", "vm", "fleet"), default="native", help="where nodes live")


def run(args: argparse.Namespace) -> int:
    from testbed.lab import addons
    from testbed.lab import spec as specs
    from testbed.lab.bringup import bring_up
    from testbed.proxy.modes import NAMES

    if args.env != "native":
        raise UsageError(
            f"--env {args.env}: `up` makes clusters on this machine only; for a cluster in a VM run "
            "`testbed vm run -- sh -c 'testbed up && …'`"
        )
    wishes: dict[str, Any] = specs.load(args.file) if args.file else {}
    given = {
        key: getattr(args, key)
        for key in (*WISHES, "ipvs_scheduler", "proxy_command", "cni_conf", "node_grace")
    }
    wishes |= {key: value for key, value in given.items() if value is not None}
    wishes["images"] = {**(wishes.get("images") or {}), **_images(args.image)}
    spec = specs.resolve(wishes, (*NAMES, "none"))
    if not spec.proxy_command:
        _refuse_what_the_kernel_lacks({spec.mode_of(node) for node in spec.nodes})
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    cluster = bring_up(spec, api_port=args.api_port, progress=_say)
    addons.install(cluster)
    took = time.monotonic() - started
    print(
        f"cluster {spec.name}: {len(spec.nodes)} nodes Ready in {took:.1f} s, "
        f"proxy mode {spec.proxy_mode}\nexport KUBECONFIG={cluster.kubeconfig}"
    )
    return 0


def _refuse_what_the_kernel_lacks(modes: Iterable[str]) -> None:
    from testbed.kernel import features
    from testbed.proxy.modes import KERNEL_FEATURE

    needed = {KERNEL_FEATURE[mode]: mode for mode in modes if mode in KERNEL_FEATURE}
    for feature in features.missing(needed):
        raise UsageError(
            f"proxy mode {needed[feature]} needs {feature}, which this kernel lacks; the small VM has it: "
            f"`testbed vm run -- sh -c 'testbed up --proxy-mode {needed[feature]} && …'`"
        )


def _images(pairs: list[str]) -> dict[str, str]:
    images = {}
    for pair in pairs:
        glob, equals, path = pair.partition("=")
        if not (glob and equals and path):
            raise UsageError(f"--image {pair!r} is not GLOB=PATH")
        images[glob] = path
    return images


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr)
