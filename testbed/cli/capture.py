"""Write what passes a node, a Pod or the outside client to a pcap file, until interrupted.

  testbed capture node/node01 -w node01.pcap
  testbed capture pod/default/web-0 -w web.pcap --seconds 10 --filter 'tcp port 80'

TARGET is node/NAME, pod/NAMESPACE/NAME or client; the filter is one as tcpdump(8) takes it. `-w -` writes to
stdout: `testbed capture client -w - | wireshark -k -i -`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

from testbed.errors import UsageError

PROGRAM = "tcpdump"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="node/NAME, pod/NAMESPACE/NAME or client")
    parser.add_argument("-w", dest="file", metavar="FILE", required=True, help="the pcap file; - for stdout")
    parser.add_argument("--name", default="testbed", help="cluster name (default testbed)")
    parser.add_argument("--interface", default="any", metavar="DEV", help="default: all of them")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long")
    parser.add_argument("--filter", default="", metavar="EXPR", help="only such packets: 'udp port 53'")


def run(args: argparse.Namespace) -> int:
    from testbed.cli.trace import place
    from testbed.lab.cluster import Cluster

    if shutil.which(PROGRAM) is None:
        raise UsageError(f"capturing needs {PROGRAM}: apt-get install {PROGRAM}, or make setup")
    netns = place(Cluster.open(args.name), args.target)
    # -Z root: tcpdump would give its rights up, and then could not write where the user wants the file
    command = ["nsenter", f"--net={netns}", PROGRAM, "-Z", "root", "-U", "-n", "-i", args.interface]
    with subprocess.Popen([*command, "-w", args.file, args.filter]) as capture:
        signal.signal(signal.SIGTERM, lambda *_: capture.terminate())
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            capture.wait(args.seconds)
        with suppress(ProcessLookupError):
            os.kill(capture.pid, signal.SIGINT)
        code = capture.wait()
    if args.file != "-" and not code:
        print(f"written: {args.file}", file=sys.stderr)
    return int(code != 0)
