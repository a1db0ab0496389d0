"""The program of image agnhost, for tests that use it: netexec, serve-hostname, connect, liveness and others.

testbed agnhost netexec --http-port 8080 --udp-port 8081 &
curl http://127.0.0.1:8080/hostname
"""

from __future__ import annotations

import argparse

ON_ONE_PORT = ("serve-hostname", "test-webserver", "liveness")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    programs = parser.add_subparsers(dest="program", metavar="PROGRAM", required=True)
    netexec = programs.add_parser("netexec", help="HTTP and UDP, as the network tests of Kubernetes ask")
    netexec.add_argument("--http-port", type=int, default=8080)
    netexec.add_argument("--udp-port", type=int, default=8081, help="-1: none")
    netexec.add_argument("--http-override", default="", help="what / answers")
    hostname = programs.add_parser("serve-hostname", help="answers with the host's name")
    hostname.add_argument("--port", type=int, default=9376)
    webserver = programs.add_parser("test-webserver", help="serves the files of its machine")
    webserver.add_argument("--port", type=int, default=80)
    liveness = programs.add_parser("liveness", help="is well for 10 s, and no longer: for liveness probes")
    liveness.add_argument("--port", type=int, default=8080)
    programs.add_parser("pause", help="does nothing")
    programs.add_parser("porter", help="serves the ports that variables SERVE_PORT_N name")
    connect = programs.add_parser("connect", help="tries to reach HOST:PORT")
    connect.add_argument("target", metavar="HOST:PORT")
    connect.add_argument("--timeout", default="1s")
    connect.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from testbed.errors import TestbedError
    from testbed.model.duration import seconds
    from testbed.node import agnhost

    try:
        if args.program == "connect":
            return asyncio.run(agnhost.connect(args.target, seconds(args.timeout), args.protocol))
        if args.program == "netexec":
            asyncio.run(agnhost.netexec(args.http_port, args.udp_port, args.http_override))
        elif args.program in ON_ONE_PORT:
            asyncio.run(getattr(agnhost, args.program.replace("-", "_"))(args.port))
        else:
            asyncio.run({"pause": agnhost.pause, "porter": agnhost.porter}[args.program]())
    except OSError as error:
        raise TestbedError(f"cannot listen: {error.strerror}") from None
    return 0
