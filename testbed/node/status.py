"""A Pod's status from the state of its containers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from testbed.model.conditions import transition
from testbed.node.images import Program
from testbed.node.process import Status

Object = dict[str, Any]


@dataclass
class Container:
    """A container of a Pod: its spec, the process of its latest start, and why it waits if it does.

    By process: `last_words`, the termination messages; `reasons`, where the exit code does not tell it.
    """

    spec: Object
    program: Program | None = None
    process: Status | None = None
    previous: Status | None = None
    attempt: int = 0
    ready: bool = False
    up: bool = False
    waiting: tuple[str, str] = ("ContainerCreating", "")
    restart_at: float | None = None
    initial: bool = False
    last_words: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def sidecar(self) -> bool:
        """An init container that is to run on (KEP-753)."""
        return self.initial and self.spec.get("restartPolicy") == "Always"

    @property
    def watched(self) -> bool:
        """Whether it is one that serves: it is probed, and may be ready."""
        return not self.initial or self.sidecar

    @property
    def passed(self) -> bool:
        """Whether what comes after this init container may start."""
        if self.sidecar:
            return self.up and self.running
        return self.process is not None and self.process.exit_code == 0

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def state(self) -> Object:
        """As the API has it: waiting, running or terminated."""
        if self.process is None or (self.restart_at is not None and not self.running):
            reason, message = self.waiting
            return {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        if self.process.running:
            return {"running": {"startedAt": _time(self.process.started)}}
        return self._ended(self.process)

    def _ended(self, process: Status) -> Object:
        made = _terminated(process)
        if message := self.last_words.get(process.id):
            made["terminated"]["message"] = message
        if reason := self.reasons.get(process.id):
            made["terminated"]["reason"] = reason
        return made

    def status(self) -> Object:
        ended = self.previous
        if self.restart_at is not None and self.process is not None and not self.process.running:
            ended = self.process
        image = self.spec.get("image", "")
        made = {
            "name": self.name,
            "image": image,
            "imageID": f"testbed://{image}",
            "ready": (self.ready and self.running) if self.watched else self.passed,
            "started": self.up and self.running,
            "restartCount": self.attempt,
            "state": self.state(),
            "lastState": self._ended(ended) if ended else {},
        }
        return made | ({"containerID": f"testbed://{self.process.id}"} if self.process else {})


def containers_of(pod: Object) -> list[Container]:
    """The init containers in order, then the others."""
    spec = pod["spec"]
    first = [Container(each, initial=True) for each in spec.get("initContainers") or ()]
    return first + [Container(each) for each in spec["containers"]]


def initializing(containers: Sequence[Container]) -> Container | None:
    """The init container that holds up the rest; None when there is none, or the rest has begun."""
    if any(each.process for each in containers if not each.initial):
        return None
    return next((each for each in containers if each.initial and not each.passed), None)


def pod_status(
    pod: Object,
    everything: Sequence[Container],
    host_ips: Sequence[str],
    pod_ips: Sequence[str],
    started: str,
) -> Object:
    """The whole status of a Pod whose network is up when it has `pod_ips`; primary family first."""
    initial = [each for each in everything if each.initial]
    containers = [each for each in everything if not each.initial]
    held_up = initializing(everything)
    if held_up:
        for each in containers:
            each.waiting = ("PodInitializing", "")
    phase = _phase(pod, everything)
    done = phase in ("Succeeded", "Failed")
    unready = [each.name for each in containers if not (each.ready and each.running)]
    reason = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady" if unready else ""
    message = f"containers with unready status: [{' '.join(unready)}]" if unready and not done else ""
    status: Object = {
        "phase": phase,
        "conditions": [
            transition(pod, "PodReadyToStartContainers", bool(pod_ips)),
            _initialized(pod, initial, held_up),
            transition(pod, "Ready", not unready, reason, message),
            transition(pod, "ContainersReady", not unready, reason, message),
            transition(pod, "PodScheduled", True),
        ],
        "hostIP": host_ips[0],
        "hostIPs": [{"ip": ip} for ip in host_ips],
        "startTime": started,
        **({"initContainerStatuses": [each.status() for each in initial]} if initial else {}),
        "containerStatuses": [each.status() for each in containers],
        "qosClass": (pod.get("status") or {}).get("qosClass") or "BestEffort",
    }
    return status | ({"podIP": pod_ips[0], "podIPs": [{"ip": ip} for ip in pod_ips]} if pod_ips else {})


def _initialized(pod: Object, initial: Sequence[Container], held_up: Container | None) -> Object:
    if held_up is None:
        return transition(pod, "Initialized", True)
    names = " ".join(each.name for each in initial if not each.passed)
    message = f"containers with incomplete status: [{names}]"
    return transition(pod, "Initialized", False, "ContainersNotInitialized", message)


def is_over(pod: Object, containers: Sequence[Container]) -> bool:
    """Whether the Pod's work is done, well or badly; sidecars have nothing left to do then."""
    return _phase(pod, containers) in ("Succeeded", "Failed")


def same_conditions(status: Object, pod: Object) -> bool:
    """Whether the API has the conditions of `status`; the controllers too write them when a node is lost."""
    wanted, held = (
        {(each["type"], each["status"]) for each in of.get("conditions") or ()}
        for of in (status, pod.get("status") or {})
    )
    return wanted <= held


def will_restart(pod: Object, container: Container) -> bool:
    """Whether a container that ended is started again, by the Pod's restartPolicy."""
    policy = pod["spec"].get("restartPolicy", "Always")
    exit_code = (container.process.exit_code or 0) if container.process else 0
    if container.initial:
        return container.sidecar or (exit_code != 0 and policy != "Never")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _phase(pod: Object, everything: Sequence[Container]) -> str:
    held_up = initializing(everything)
    if held_up:
        ended = held_up.process is not None and not held_up.running
        return "Failed" if ended and not will_restart(pod, held_up) else "Pending"
    containers = [each for each in everything if not each.initial]
    if all(each.process is None and not each.previous for each in containers):
        return "Pending"
    for each in containers:
        if each.process is None or each.running or each.restart_at is not None:
            return "Running"
    codes = [each.process.exit_code or 0 for each in containers if each.process]
    if any(will_restart(pod, each) for each in containers):
        return "Running"
    return "Failed" if any(codes) else "Succeeded"


def _terminated(process: Status) -> Object:
    code = process.exit_code or 0
    made: Object = {
        "exitCode": 128 - code if code < 0 else code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": _time(process.started),
        "finishedAt": _time(process.finished or process.started),
        "containerID": f"testbed://{process.id}",
    }
    return {"terminated": made | ({"signal": -code} if code < 0 else {})}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
