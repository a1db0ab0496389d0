"""The container runtime of a machine that is a node by itself: it starts and reaps what kubelet asks for.

In a cluster of namespaces the init of each machine does this. Here the machine has an init of its own, and
this is one of its services. What an earlier runtime started has ended with it, so its sandboxes are removed.

    testbed runtime --socket /run/init.sock
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--socket", default="/run/init.sock", metavar="FILE", help="where it takes requests")
    add("--root-dir", default="/var/lib/kubelet", metavar="DIR", help="kubelet's; sandboxes are noted there")


def run(args: argparse.Namespace) -> int:
    """Serve until killed."""
    import gc
    from pathlib import Path

    from testbed.kernel.namespaces import adopt_orphans
    from testbed.lab import components
    from testbed.node import sandbox
    from testbed.node.init import Init, listen

    components.load()
    adopt_orphans()
    sandbox.forget_all(Path(args.root_dir) / "pods")
    Path(args.socket).unlink(missing_ok=True)
    init = Init(listen(args.socket))
    gc.collect()
    gc.freeze()
    init.run()
    return 0
