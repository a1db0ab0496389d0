"""From a container of a Pod to the process that init is asked to start."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed.client import Client
from testbed.client.events import Recorder
from testbed.node import busybox, limits, volumes
from testbed.node.accounts import Tokens, furnished
from testbed.node.console import Consoles
from testbed.node.environment import Services, environment
from testbed.node.images import ImageError, may_ask_the_api, plain_name
from testbed.node.logs import log_file
from testbed.node.process import Mount, Process, Status
from testbed.node.references import MissingReference, References
from testbed.node.runtime import Runtime
from testbed.node.sandbox import Attached, Sandboxes, hostname
from testbed.node.status import Container

Object = dict[str, Any]

APPLETS = ("busybox", "alpine")
"""Images whose programs are busybox's."""
LAST_WORDS = "/dev/termination-log"
LONGEST_MESSAGE, LONGEST_LOG_MESSAGE = 4096, 2048
"""Bytes of a termination message, and of one taken from the log."""
UNIT_PAUSES = (0.1, 0.2, 0.5, 1.0, 1.0)
"""Seconds between looks for a unit that has ended."""


@dataclass(frozen=True)
class Node:
    """What a Pod needs of its node."""

    name: str
    ips: Sequence[str]
    client: Client
    runtime: Runtime
    sandboxes: Sandboxes
    services: Services
    tokens: Tokens
    events: Recorder
    images: Sequence[tuple[str, str]]
    most_pids: int = 0
    consoles: Consoles = field(default_factory=Consoles)


def furnish(node: Node, pod: Object) -> Object:
    """The Pod as it runs here: with its service account where a program may look for it."""
    containers = (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
    asks = any(may_ask_the_api(each, node.images) for each in containers)
    return furnished(pod) if asks else pod


def process_id(uid: str, container: str, attempt: int) -> str:
    return f"pod/{uid}/{container}/{attempt}"


async def process_of(node: Node, pod: Object, each: Container, attached: Attached, attempt: int) -> Process:
    """The process of a container whose program is resolved; writes the files that the program needs."""
    assert each.program
    uid = pod["metadata"]["uid"]
    for name, text in (each.program.files or {}).items():
        (node.sandboxes.directory(uid) / name).write_text(text)
    host_network = bool(pod["spec"].get("hostNetwork"))
    facts = facts_of(node, pod, attached.ips)
    values = await References(node.client, pod["metadata"]["namespace"]).values(each.spec)
    env = environment(pod, each.spec, facts, await node.services.seen_by(pod), values)
    if plain_name(str(each.spec.get("image"))) in APPLETS:
        env["PATH"] = busybox.path() + env.get("PATH", "")
    mounts = volumes.mounts(pod, each.spec, node.sandboxes.directory(uid), env)
    security = {**(pod["spec"].get("securityContext") or {}), **(each.spec.get("securityContext") or {})}
    output = log_file(pod, each.name, attempt)
    output.parent.mkdir(parents=True, exist_ok=True)
    spoken = last_words_file(node, pod, each.name, attempt)
    spoken.parent.mkdir(parents=True, exist_ok=True)
    spoken.touch()
    spoken.chmod(0o666)
    last_words = Mount(str(spoken), each.spec.get("terminationMessagePath") or LAST_WORDS)
    return Process(
        id=process_id(uid, each.name, attempt),
        argv=each.program.argv,
        env=env,
        cwd=each.spec.get("workingDir") or "/",
        log=str(output),
        netns=attached.netns,
        pidns=True,
        hostname="" if host_network else facts["HOSTNAME"],
        mounts=(*node.sandboxes.mounts(pod), *each.program.mounts, *mounts, last_words),
        user=user_of(security),
        readonly=bool(security.get("readOnlyRootFilesystem")),
        cgroup=limits.confine(process_id(uid, each.name, attempt), each.spec, node.most_pids),
    )


def user_of(security: Object) -> tuple[int, ...]:
    """User, group and further groups of a container's merged securityContext. Raises MissingReference."""
    user, group = security.get("runAsUser"), security.get("runAsGroup")
    if security.get("runAsNonRoot") and not user:
        raise MissingReference("container has runAsNonRoot and image will run as root")
    if user is None and group is None and security.get("fsGroup") is None:
        return ()
    more = [security["fsGroup"]] if security.get("fsGroup") is not None else []
    more += security.get("supplementalGroups") or []
    return (int(user or 0), int(group or 0), *map(int, more))


def last_words_file(node: Node, pod: Object, container: str, attempt: int) -> Path:
    return node.sandboxes.directory(pod["metadata"]["uid"]) / "messages" / f"{container}-{attempt}"


def last_words(node: Node, pod: Object, each: Container) -> str:
    """The termination message of a container that has ended: its own, or on request the end of its log."""
    assert each.process
    attempt = int(each.process.id.rpartition("/")[2])
    wants_log = each.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    sources = [(last_words_file(node, pod, each.name, attempt), LONGEST_MESSAGE)]
    if wants_log and each.process.exit_code:
        sources.append((log_file(pod, each.name, attempt), LONGEST_LOG_MESSAGE))
    for file, longest in sources:
        with contextlib.suppress(OSError), file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - longest))
            if text := content.read(longest):
                return text.decode(errors="replace")
    return ""


def record_end(node: Node, pod: Object, each: Container) -> None:
    """What is to be said of a container that has ended."""
    if each.process and not (each.program and each.program.unit):
        each.last_words[each.process.id] = last_words(node, pod, each)
        if limits.ran_out_of_memory(each.process.id):
            each.reasons[each.process.id] = "OOMKilled"


async def begin(node: Node, pod: Object, each: Container, attached: Attached, attempt: int) -> Status:
    """Start a container whose program is resolved, or find the unit that it stands for."""
    assert each.program
    log_file(pod, each.name, attempt - 2).unlink(
        missing_ok=True
    )  # this run's and the previous one's are kept
    image = f'Container image "{each.spec.get("image")}" already present on machine'
    node.events.note(pod, "Pulled", image)
    if not each.program.unit:
        process = await process_of(node, pod, each, attached, attempt)
        node.events.note(pod, "Created", f"Created container: {each.name}")
        return await _start(node, each, process)
    status = await _running_unit(node.runtime, each.program.unit)
    log = log_file(pod, each.name, attempt)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    log.symlink_to(f"/var/log/{each.program.unit}.log")
    return status


async def _start(node: Node, each: Container, process: Process) -> Status:
    console = node.consoles.open(process.id, each.spec, Path(process.log))
    if console is None:
        return await node.runtime.start(process)
    if console.tty:
        process = replace(process, tty=True, env={**(process.env or {}), "TERM": "xterm"})
    try:
        status = await node.runtime.start(process, console.theirs)
    except BaseException:
        node.consoles.close(process.id)
        raise
    console.handed_over()
    return status


async def _running_unit(runtime: Runtime, unit: str) -> Status:
    """Waits a little: init starts it again after a pause. Raises ImageError."""
    for pause in UNIT_PAUSES:
        for status in await runtime.list():
            if status.id == unit and status.running:
                return status
        await asyncio.sleep(pause)
    raise ImageError(f"{unit} does not run on this node")


async def fill_volumes(node: Node, pod: Object) -> None:
    """Have the Pod's volumes ready for its containers. Raises MountError."""
    references = References(node.client, pod["metadata"]["namespace"])
    setting = volumes.Setting(pod, references, facts_of(node, pod, ()), node.tokens)
    await volumes.prepare(setting, node.sandboxes.directory(pod["metadata"]["uid"]))


def facts_of(node: Node, pod: Object, ips: Sequence[str]) -> dict[str, str]:
    """What the downward API knows besides the Pod object."""
    host_network = bool(pod["spec"].get("hostNetwork"))
    return {
        "POD_IP": ips[0] if ips else "",
        "POD_IPS": ",".join(ips),
        "HOST_IP": node.ips[0],
        "HOST_IPS": ",".join(node.ips),
        "NODE_NAME": node.name,
        "HOSTNAME": node.name if host_network else hostname(pod),
    }
