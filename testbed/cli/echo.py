"""The echo server, image `testbed/echo`: answers with its Pod, its node and the address it sees the peer at.

testbed echo --tcp 8080 --udp 5353 &
curl http://127.0.0.1:8080/
"""

from __future__ import annotations

import argparse

DEFAULT_PORT = 8080


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("--tcp", "lines, and HTTP, over TCP"),
        ("--http", "the same as --tcp"),
        ("--udp", "datagrams"),
        ("--sctp", "lines, over SCTP"),
    ):
        parser.add_argument(
            name, type=int, action="append", default=[], metavar="PORT", help=f"serve {what}; may be repeated"
        )


def run(args: argparse.Namespace) -> int:
    from testbed.node.echo import serve

    ports = {"tcp": [*args.tcp, *args.http], "udp": args.udp, "sctp": args.sctp}
    serve(ports if any(ports.values()) else {"tcp": [DEFAULT_PORT]})
    return 0
