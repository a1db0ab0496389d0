"""A container's lifecycle hooks: postStart and preStop, by exec, httpGet, sleep or tcpSocket."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from testbed.node import probes
from testbed.node.runtime import Runtime
from testbed.node.status import Container

Object = dict[str, Any]


async def run(name: str, each: Container, ip: str, runtime: Runtime, patience: float) -> str:
    """Run the hook `name` of a running container, if it has one; what went wrong, "" for nothing.

    `patience`: seconds that it may take.
    """
    hook = (each.spec.get("lifecycle") or {}).get(name)
    if not hook or not each.process:
        return ""
    if "sleep" in hook:
        await asyncio.sleep(min(float(hook["sleep"]["seconds"]), patience))
        return ""
    if "tcpSocket" in hook:  # kept in the API for old manifests; Kubernetes does not run it either
        return ""
    inside = partial(runtime.run_in, each.process.pid)
    done, why = await probes.once({**hook, "timeoutSeconds": patience}, each.spec, ip, inside)
    return "" if done else f"{name} hook of container {each.name} failed: {why}"
