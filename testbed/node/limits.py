"""The limits of containers: a control group each, where the machine has them; else they are not enforced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.kernel import cgroup
from testbed.model import quantity

Object = dict[str, Any]

PERIOD = 100_000
"""Microseconds in which a container may use the processor for its share, as with any kubelet."""
LEAST_QUOTA = 1_000
"""Microseconds: the kernel takes no less."""


def limits_of(container: Object) -> dict[str, str]:
    """What its control group is told. When memory runs out all of its processes go, not one of them."""
    limits = (container.get("resources") or {}).get("limits") or {}
    told: dict[str, str] = {}
    if "memory" in limits:
        most = str(int(quantity.parse(limits["memory"])))
        told |= {"memory.max": most, "memory.swap.max": "0", "memory.oom.group": "1"}
    if "cpu" in limits:
        told["cpu.max"] = f"{max(LEAST_QUOTA, int(quantity.parse(limits['cpu']) * PERIOD))} {PERIOD}"
    return told


def pod_group(uid: str) -> Path:
    return cgroup.ROOT / "pods" / uid


def container_group(process_id: str) -> Path:
    """Of one start of a container: `pod/UID/NAME/ATTEMPT`."""
    _, uid, name, attempt = process_id.split("/")
    return pod_group(uid) / f"{name}-{attempt}"


def confine(process_id: str, container: Object, most_pids: int) -> str:
    """Make the control group in which the container is to start; "" for none.

    `most_pids`: processes that the Pod may have; 0: as many as it likes. Raises OSError, ValueError.
    """
    told = limits_of(container)
    if not (told or most_pids) or not cgroup.usable():
        return ""
    group = container_group(process_id)
    cgroup.make(group, told)
    if most_pids:
        (group.parent / "pids.max").write_text(str(most_pids))
    return str(group)


def ran_out_of_memory(process_id: str) -> bool:
    return cgroup.oom_kills(container_group(process_id)) > 0


def release(uid: str) -> None:
    """The control groups of a Pod whose processes have ended."""
    cgroup.remove(pod_group(uid))
