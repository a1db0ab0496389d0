"""The modules of the components, loaded once for all that are forked from one process."""

import importlib

MODULES = (
    "setproctitle",
    "testbed.api.server",
    "testbed.cli.apiserver",
    "testbed.cli.controller_manager",
    "testbed.cli.dns",
    "testbed.cli.kube_proxy",
    "testbed.cli.kubelet",
    "testbed.cli.main",
    "testbed.controllers.process",
    "testbed.dns.process",
    "testbed.node.kubelet",
    "testbed.proxy.agent",
    "testbed.proxy.modes.iptables",
    "testbed.proxy.modes.ipvs",
    "testbed.proxy.modes.nftables",
    "testbed.proxy.modes.userspace",
)
"""What components import, some of it late."""


def load() -> None:
    """Import them all, so that components which are forked from here need not."""
    for module in MODULES:
        importlib.import_module(module)
