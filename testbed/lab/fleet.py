"""A cluster on machines of their own: made by Ansible, told by its API server.

What a checkout knows of its fleet lies in `.fleet/`: the administrator's kubeconfig, the inventory that it
was made from, the log of a run that failed. One run at a time holds its lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed.client import ApiError, Client
from testbed.controllers.topology import CONTROL_PLANE
from testbed.errors import TestbedError, UsageError
from testbed.model.conditions import condition
from testbed.model.resources import NODES
from testbed.vm import bundle

PLAYBOOKS = bundle.CHECKOUT / "playbooks"
ROOM = bundle.CHECKOUT / ".fleet"
KUBECONFIG = ROOM / "admin.kubeconfig"
VAGRANT = bundle.CHECKOUT / ".vagrant/provisioners/ansible/inventory/vagrant_ansible_inventory"
GROUPS = ("control_plane", "nodes")
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 2.0
"""For the kernel of the API server's machine, which answers a SYN however busy its programs are."""

Progress = Callable[[str], None]
Object = dict[str, Any]

REMEDIES = (
    (
        r"Permission denied|publickey|password was requested",
        "its key is refused; see ansible_user, ansible_ssh_private_key_file",
    ),
    (r"Host key verification", "its host key has changed; remove the old one: ssh-keygen -R {host}"),
    (r"Could not resolve|Name or service not known", "its name is unknown; give it an ansible_host"),
    (r"sudo|privilege|become", "its user may not become root without a password; see sudoers(5)"),
    (
        r"timed out|Timeout|No route|refused|unreachable|closed|^\s*$",
        "no answer; is it up? (vagrant status)",
    ),
    (r"python|interpreter", "it has no Python: apt-get install python3 there"),
)
"""What ssh and Ansible say of a machine that cannot be reached, and what is to be done.

ssh says nothing where a connection that is shared has ended.
"""


@dataclass(frozen=True)
class Member:
    """A node as the API server has it."""

    name: str
    address: str
    ready: bool
    why: str
    kernel: str
    pods: str
    control_plane: bool = False


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the fleet. Raises UsageError when another run does."""
    ROOM.mkdir(exist_ok=True)
    with (ROOM / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another run works on this fleet; wait until it has ended") from None
        yield


def inventory(given: Path | None) -> Path:
    """The inventory to use: the one named, Vagrant's, or the last one. Raises UsageError."""
    remembered = ROOM / "inventory"
    for path in (given,) if given else (VAGRANT, remembered):
        if path and path.exists():
            return path
    if given:
        raise UsageError(f"no inventory {given}: name a file with the groups {' and '.join(GROUPS)}")
    raise UsageError("no machines yet: `vagrant up`, or name an --inventory")


def listing(path: Path) -> Object:
    """What Ansible reads out of an inventory. Raises UsageError."""
    command = [_program("ansible-inventory"), "-i", str(path), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise UsageError(f"{path} is no inventory: {last(done.stderr)}") from None


def machines(path: Path) -> dict[str, list[str]]:
    """Group → machines. Raises UsageError unless there is one control plane."""
    listed = listing(path)
    found = {group: list(listed.get(group, {}).get("hosts", ())) for group in GROUPS}
    if len(found["control_plane"]) != 1 or not found["nodes"]:
        held = ", ".join(f"{len(hosts)} in {group}" for group, hosts in found.items())
        raise UsageError(f"{path}: one machine in group control_plane and some in nodes are needed ({held})")
    return found


def play(name: str, path: Path, progress: Progress, *, check: bool = False) -> dict[str, int]:
    """Run a playbook on the machines of an inventory, or only `check` what it would change. How many tasks
    changed something, by machine.

    Raises UsageError for what a user must put right, TestbedError for what failed; the log is kept then.
    """
    import ansible_runner

    trouble: list[TestbedError] = []
    task = [""]

    def tell(event: Object) -> bool:
        data = event.get("event_data", {})
        if event["event"] == "playbook_on_task_start" and data.get("name") != task[0]:
            task[0] = str(data.get("name"))
            progress(task[0])
        if event["event"] == "runner_on_unreachable":
            trouble.append(unreachable(str(data.get("host")), str(data.get("res", {}).get("msg", ""))))
        if event["event"] == "runner_on_failed" and not data.get("ignore_errors"):
            trouble.append(_failed(str(data.get("host")), task[0], data.get("res", {})))
        return True

    log = ROOM / "log"
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir(parents=True)
    environment = {"ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "PATH": _path()}
    outcome = ansible_runner.run(
        private_data_dir=str(log),
        playbook=str(PLAYBOOKS / name),
        inventory=str(path.resolve()),
        envvars=environment,
        cmdline="--check" if check else None,
        quiet=True,
        event_handler=tell,
    )
    if trouble:
        error = trouble[0]
        raise type(error)(f"{error}; the whole log: {log}/artifacts")
    if outcome.rc != 0:
        raise TestbedError(f"the playbook {name} failed; its log: {log}/artifacts")
    changed = dict(outcome.stats.get("changed", {}))
    shutil.rmtree(log, ignore_errors=True)
    return changed


def members(kubeconfig: Path | None = None) -> list[Member]:
    """The nodes. Raises UsageError when there is no fleet, TestbedError when its API server is silent, within
    CONNECT_SECONDS where its machine is gone. `kubeconfig`: of another cluster than this checkout's fleet."""
    if not (path := kubeconfig or KUBECONFIG).exists():
        raise UsageError("there is no fleet: `vagrant up`, or `testbed fleet up --inventory FILE`")
    return asyncio.run(_members(path))


def standing() -> tuple[list[Member], str]:
    """The nodes of this checkout's fleet. Without any: "" where there is no fleet, or why it is silent."""
    if not KUBECONFIG.exists():
        return [], ""
    try:
        return members(), ""
    except TestbedError as error:
        return [], str(error)


def is_up() -> bool:
    """Whether this checkout has a fleet whose API server answers."""
    return bool(standing()[0])


async def _members(kubeconfig: Path) -> list[Member]:
    client = Client.from_kubeconfig(kubeconfig)
    try:
        await _knock(client.access.server)
        async with asyncio.timeout(ANSWER_SECONDS), client:
            return [_member(node) for node in (await client.list(NODES)).items]
    except (ApiError, OSError) as error:
        told = str(error) or f"nothing in {ANSWER_SECONDS:g} s"
        raise TestbedError(f"the fleet's API server does not answer: {told}; is its machine up?") from None


async def _knock(server: str) -> None:
    """Connect to a server, and no more. Raises OSError."""
    url = urlsplit(server)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, url.port)
    except TimeoutError:
        raise OSError(f"nothing at {url.netloc} in {CONNECT_SECONDS:g} s") from None
    except OSError as error:
        raise OSError(f"{url.netloc}: {os.strerror(error.errno) if error.errno else error}") from None
    writer.close()


def _member(node: Object) -> Member:
    status = node.get("status") or {}
    ready = condition(node, "Ready") or {"status": "False", "message": "it has not reported yet"}
    addresses = [each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP"]
    return Member(
        node["metadata"]["name"],
        next(iter(addresses), ""),
        ready["status"] == "True",
        "" if ready["status"] == "True" else str(ready.get("message") or ready["status"]),
        (status.get("nodeInfo") or {}).get("kernelVersion", ""),
        ",".join(node["spec"].get("podCIDRs") or ()),
        CONTROL_PLANE in (node["metadata"].get("labels") or {}),
    )


def unreachable(host: str, message: str) -> UsageError:
    """What ssh said of a machine, as what is to be done."""
    for pattern, remedy in REMEDIES:
        if re.search(pattern, message, re.IGNORECASE):
            return UsageError(f"{host}: {remedy.format(host=host)}")
    return UsageError(f"{host} cannot be reached: {last(message)}")


def _failed(host: str, task: str, result: Object) -> TestbedError:
    message = str(result.get("msg") or result.get("stderr") or "failed")
    kind = UsageError if message.startswith("needs ") else TestbedError
    detail = str(result.get("stderr") or "")
    return kind(f"{host}: {task}: {last(detail) if detail.strip() else last(message)}")


def last(text: str) -> str:
    """The last line of a program's words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _program(name: str) -> str:
    found = shutil.which(name, path=_path())
    if not found:
        raise UsageError(f"{name} is missing: make setup")
    return found


def _path() -> str:
    return f"{sys.prefix}/bin:{os.environ.get('PATH', '')}"
