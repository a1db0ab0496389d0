"""The bridge CNI plugin `testbed-bridge`. A container runtime calls it, with the CNI_ variables set.

CNI_COMMAND=VERSION testbed cni < /dev/null
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything comes by environment and standard input."""


def run(args: argparse.Namespace) -> int:
    from testbed.errors import TestbedError
    from testbed.node import bridge

    try:
        answer = _call(os.environ.get("CNI_COMMAND", ""), sys.stdin.read())
        code = 0
    except (TestbedError, OSError) as error:
        number = error.code if isinstance(error, bridge.PluginError) else bridge.FAILED
        answer, code = {"cniVersion": bridge.VERSIONS[-1], "code": number, "msg": str(error)}, 1
    except Exception as error:  # pyroute2's NetlinkError has no base of its own
        message = f"{type(error).__name__}: {error}"
        answer, code = {"cniVersion": bridge.VERSIONS[-1], "code": bridge.FAILED, "msg": message}, 1
    if answer is not None:
        print(json.dumps(answer))
    return code


def _call(command: str, text: str) -> dict[str, Any] | None:
    from testbed.node import bridge

    if command == "VERSION":
        return {"cniVersion": bridge.VERSIONS[-1], "supportedVersions": list(bridge.VERSIONS)}
    try:
        config = json.loads(text)
    except ValueError as error:
        message = f"standard input is not a network configuration: {error}"
        raise bridge.PluginError(bridge.UNDECODABLE, message) from None
    wanted = bridge.Attachment.parse(os.environ, config)
    if command == "ADD":
        return {"cniVersion": config.get("cniVersion") or bridge.VERSIONS[-1], **bridge.add(wanted)}
    if command == "DEL":
        bridge.delete(wanted)
    elif command == "CHECK":
        bridge.check(wanted, config.get("prevResult") or {})
    else:
        message = f"CNI_COMMAND {command!r} is not one of ADD, DEL, CHECK and VERSION"
        raise bridge.PluginError(bridge.INVALID_ENVIRONMENT, message)
    return None
