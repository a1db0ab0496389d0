"""Whether a node can take a Pod that it was given: its host ports must be free. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]
HostPort = tuple[str, str, int]
"""Address ("" for all), protocol, port."""

EVERY = ("", "0.0.0.0", "::")


def host_ports(pod: Object) -> list[HostPort]:
    """The ports of the node that a Pod asks for; on the node's network, all that it declares."""
    spec = pod["spec"]
    found = []
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port["containerPort"] if spec.get("hostNetwork") else 0)
            if number:
                found.append((port.get("hostIP") or "", port.get("protocol") or "TCP", int(number)))
    return found


def port_mappings(pod: Object) -> list[Object]:
    """For CNI's capability `portMappings`: what is to lead from the node into the Pod."""
    if pod["spec"].get("hostNetwork"):
        return []
    return [
        {
            "hostPort": port["hostPort"],
            "containerPort": port["containerPort"],
            "protocol": (port.get("protocol") or "TCP").lower(),
            "hostIP": port.get("hostIP") or "",
        }
        for container in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def refusal(pod: Object, others: Iterable[Object]) -> tuple[str, str] | None:
    """Reason and message when the node cannot take `pod` beside `others`, in the kubelet's words."""
    wanted = host_ports(pod)
    if not wanted:
        return None
    taken = [port for other in others for port in host_ports(other)]
    if any(_clash(one, other) for one in wanted for other in taken):
        return "NodePorts", "Pod was rejected: Node didn't have free ports for the requested pod ports"
    return None


def refused_before(pod: Object) -> tuple[str, str] | None:
    """What was told of a Pod that an earlier agent of the node refused."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        return status["reason"], status.get("message", "")
    return None


def _clash(one: HostPort, other: HostPort) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or one[0] in EVERY or other[0] in EVERY)
