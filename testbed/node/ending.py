"""The end of a Pod: its containers stopped, its sandbox taken down, the API told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import Callable, Sequence
from typing import Any

from testbed.client import ApiError, NotFound
from testbed.errors import TestbedError
from testbed.model.resources import PODS
from testbed.node.cni import CniError
from testbed.node.launch import Node, log_directory
from testbed.node.runtime import Runtime
from testbed.node.status import Container

log = logging.getLogger(__name__)
Object = dict[str, Any]

DEFAULT_GRACE = 30


def grace_of(pod: Object) -> int:
    """Seconds that the containers have to end by themselves."""
    metadata, spec = pod["metadata"], pod["spec"]
    grace = metadata.get("deletionGracePeriodSeconds")
    return int(grace if grace is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))


async def stop(
    runtime: Runtime,
    containers: Sequence[Container],
    grace: float,
    changed: asyncio.Event,
    hurry: Callable[[], bool],
) -> None:
    """Ask the containers to end, wait for it, then have the kernel end them.

    `changed` is set whenever one of them has ended; `hurry` says whether to wait no longer.
    """
    for each in containers:
        if each.running and each.process:
            number = signal.Signals[each.program.stop_signal if each.program else "SIGTERM"]
            with contextlib.suppress(TestbedError):
                await runtime.signal(each.process.id, number if grace else signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(grace, 1)):
            while any(each.running for each in containers):
                changed.clear()
                await changed.wait()
                if hurry() and grace:
                    break
    for each in containers:
        if each.process and not (each.program and each.program.unit):  # init starts a unit again
            with contextlib.suppress(TestbedError):
                await runtime.remove(each.process.id)


async def dismiss(runtime: Runtime, containers: Sequence[Container]) -> None:
    """Ask the sidecars of a Pod that is over to end."""
    for each in containers:
        if each.sidecar and each.running and each.process:
            with contextlib.suppress(TestbedError):
                await runtime.signal(each.process.id, signal.SIGTERM)


async def clean(node: Node, pod: Object, known: bool) -> bool:
    """Take the sandbox down and, if the API knows the Pod, let it forget it. False: try again."""
    metadata = pod["metadata"]
    try:
        await node.sandboxes.remove(metadata["uid"])
        shutil.rmtree(log_directory(pod), ignore_errors=True)
        if known:
            await node.client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period=0, uid=metadata["uid"]
            )
    except NotFound:
        return True
    except CniError as error:
        await node.events.warn(pod, "FailedKillPod", str(error))
        return False
    except (ApiError, OSError) as error:
        log.warning("end of %s/%s: %s", metadata["namespace"], metadata["name"], error)
        return isinstance(error, ApiError) and error.code == 409  # the name is another Pod's by now
    return True
