"""When a container that ended, or could not be started, is started again, and what it is said to wait for."""

from __future__ import annotations

import asyncio
from typing import Any

from testbed.node.images import ImageError
from testbed.node.launch import Node
from testbed.node.references import MissingReference
from testbed.node.status import Container, will_restart
from testbed.node.volumes import MountError

Object = dict[str, Any]

FIRST_BACKOFF, LONGEST_BACKOFF, FORGIVEN_AFTER = 10.0, 300.0, 600.0
"""Seconds, as the kubelet's: the first restart is at once, then 10 s, 20 s, … 300 s."""

REASONS = (
    (ImageError, "CreateContainerError"),
    (MissingReference, "CreateContainerConfigError"),
    (MountError, "CreateContainerConfigError"),
)
"""Why a container that could not be started waits, in the kubelet's words."""


def reason_of(error: Exception) -> str:
    return next((word for kind, word in REASONS if isinstance(error, kind)), "RunContainerError")


async def plan_restart(node: Node, pod: Object, each: Container) -> None:
    """Set when a container that has ended is started again, if it is."""
    assert each.process
    if not will_restart(pod, each):
        return
    ran = (each.process.finished or each.process.started) - each.process.started
    by_init = bool(each.program and each.program.unit)
    forgiven = ran > FORGIVEN_AFTER or by_init
    back_off(each, "CrashLoopBackOff", 0 if forgiven else each.attempt)
    if each.attempt and not forgiven:
        message = f"Back-off restarting failed container {each.name} in pod {pod['metadata']['name']}"
        await node.events.warn(pod, "BackOff", message)


def back_off(each: Container, reason: str, failures: int, why: str = "") -> None:
    """Let it wait, the longer the more often it has failed."""
    delay = 0.0 if not failures else min(FIRST_BACKOFF * 2 ** (failures - 1), LONGEST_BACKOFF)
    each.waiting = (reason, why or f"back-off {delay:.0f}s restarting failed container={each.name}")
    each.restart_at = asyncio.get_running_loop().time() + delay
