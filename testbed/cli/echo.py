"""The echo server, image `testbed/echo`: answers with its Pod, its node and the address it sees the peer at.

testbed echo --tcp 8080 --udp 5353 &
curl http://127.0.0.1:8080/
"""

from __future__ import annotations

import argparse

DEFAULT_PORT = 8080


def preload() -> None:
    """Import what `run` needs, before a machine's init is forked."""
    import testbed.node.echo  # noqa: F401
    from testbed.cli.main import parser

    parser("echo")  # argparse fills its tables at first use: 1.7 MB of each child's memory otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("--tcp", "lines, and HTTP, over TCP"),
        ("--http", "the same as --tcp"),
        ("--udp", "datagrams"),
    ):
        parser.add_argument(
            name, type=int, action="append", default=[], metavar="PORT", help=f"serve {what}; may be repeated"
        )


def run(args: argparse.Namespace) -> int:
    import asyncio

    from testbed.errors import UsageError
    from testbed.node.echo import serve

    tcp = [*args.tcp, *args.http]
    if not tcp and not args.udp:
        tcp = [DEFAULT_PORT]
    for port in (*tcp, *args.udp):
        if not 0 < port < 65536:
            raise UsageError(f"{port} is not a port; choose 1 to 65535")
    try:
        asyncio.run(serve(tcp, args.udp))
    except OSError as error:
        raise UsageError(f"cannot listen: {error.strerror}; choose a free port") from None
    return 0
