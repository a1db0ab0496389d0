"""Keeps the modules of all components loaded, on a machine that is a node by itself.

Its services are forked from this process: loading the modules takes an emulated machine half a minute, and
50 MB, once for all. What runs, and when, is the service manager's to say; it starts testbed/node/unit.py.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from testbed.node.unit import SOCKET

    parser.add_argument("--socket", default=SOCKET, metavar="FILE", help="where it takes requests")


def run(args: argparse.Namespace) -> int:
    """Serve until killed."""
    import gc
    from pathlib import Path

    from testbed.lab import components
    from testbed.node import unit
    from testbed.node.init import Init, listen

    components.load()
    Path(args.socket).unlink(missing_ok=True)
    init = Init(listen(args.socket))
    gc.collect()
    gc.freeze()
    unit.notify_ready()
    init.run()
    return 0
