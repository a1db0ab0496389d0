"""The `testbed` command: finds the verb, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from testbed.errors import TestbedError

USAGE = 2


@dataclass(frozen=True)
class Verb:
    """A verb: the module in `testbed.cli` with `add_arguments(parser)` and `run(args) -> int`.

    `title` is the process title of a component, in Kubernetes' own name: `ps aux | grep kube-apiserver`.
    """

    module: str
    help: str
    title: str = ""


VERBS: dict[str, Verb] = {
    "up": Verb("up", "bring up a cluster and return when its nodes are Ready"),
    "down": Verb("down", "take a cluster down; nothing is left behind"),
    "status": Verb("status", "the clusters on this machine, their nodes and components"),
    "kubeconfig": Verb("kubeconfig", "print the path of a cluster's kubeconfig"),
    "kubectl": Verb("kubectl", "run kubectl against a cluster"),
    "exec": Verb("exec", "run a command (or a shell) on a node, in a Pod or on the outside client"),
    "trace": Verb("trace", "the way of a packet rule by rule, on every node"),
    "capture": Verb("capture", "write what passes a node, a Pod or the client to a pcap file"),
    "check": Verb("check", "what this machine can and cannot do, and the remedy for each"),
    "verify": Verb("verify", "the NAT correctness matrix: real packets, checked against the oracle"),
    "bench": Verb("bench", "measure and compare proxy modes"),
    "report": Verb("report", "turn results into a page, or compare two of them"),
    "vm": Verb("vm", "run a command in a small virtual machine with a full-featured kernel"),
    "fleet": Verb("fleet", "machines made into a cluster by Ansible"),
    "apiserver": Verb("apiserver", "component: the API server", "kube-apiserver"),
    "controller-manager": Verb(
        "controller_manager", "component: controllers and scheduler", "kube-controller-manager"
    ),
    "runtime": Verb(
        "runtime", "component: the container runtime of a machine with an init of its own", "testbed-runtime"
    ),
    "warm": Verb("warm", "component: what the services of such a machine are forked from", "testbed-warm"),
    "kubelet": Verb("kubelet", "component: the node agent", "kubelet"),
    "kube-proxy": Verb("kube_proxy", "component: the service proxy agent", "kube-proxy"),
    "echo": Verb("echo", "component: the built-in echo server, image testbed/echo", "echo"),
    "agnhost": Verb("agnhost", "component: the program of image agnhost, for network tests", "agnhost"),
    "dns": Verb("dns", "component: the cluster DNS, image testbed/dns", "kube-dns"),
    "ingress": Verb("ingress", "component: the ingress controller, image testbed/ingress", "ingress-nginx"),
    "cni": Verb("cni", "component: the bridge CNI plugin, called by the CNI specification"),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The argument parser of one verb, whose module is imported; or the one that lists all of them."""
    if only is not None:
        module = importlib.import_module(f"testbed.cli.{VERBS[only].module}")
        one = Parser(
            prog=f"testbed {only}",
            description=(module.__doc__ or VERBS[only].help).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("-v", "--verbose", action="store_true", help="show tracebacks and debug logs")
        module.add_arguments(one)
        one.set_defaults(run=module.run)
        return one
    top = Parser(
        prog="testbed",
        description="Is a Kubernetes service proxy correct, and how fast is it? "
        "A cluster of network namespaces that measures both.",
    )
    top.add_argument("--version", action="store_true", help="print the version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, verb in VERBS.items():
        verbs.add_parser(name, help=verb.help)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's). Returns the exit code, 0, 1 or 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words and words[0] in VERBS else None
    try:
        args = parser(name).parse_args(words if name is None else words[1:])
    except SystemExit as stop:
        return int(stop.code or 0)
    if name is None:
        if args.version:
            from importlib.metadata import version

            print(version("netns-testbed"))
            return 0
        parser().print_help(sys.stderr)
        return USAGE
    if VERBS[name].title:
        import setproctitle

        setproctitle.setproctitle(" ".join([VERBS[name].title, *words[1:]]))
    try:
        return int(args.run(args))
    except TestbedError as error:
        if args.verbose:
            raise
        print(f"testbed {name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        print(f"testbed {name}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
