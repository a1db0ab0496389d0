"""The runtime side of CNI: reads the conf list and calls its plugins, one after the other.

Specification: https://www.cni.dev/docs/spec/ version 1.0.0, sections 3 and 4.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError, UsageError
from testbed.model import families
from testbed.node.runtime import Finished, Process, Runtime

OWN: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "testbed",
    "plugins": [
        {
            "type": "testbed-bridge",
            "bridge": "cni0",
            "mtu": 1500,
            "hairpinMode": True,
            "capabilities": {"portMappings": True},
            "ipam": {"type": "host-local"},
        }
    ],
}
"""The conf list of clusters that bring none."""
SHARED = ("cniVersion", "name")
"""What a single plugin's conf has of a list."""
OUR_PLUGIN = "testbed-bridge"
TIMEOUT = 15.0
"""Seconds for one plugin; one that hangs must not hold up the node."""


class CniError(TestbedError):
    """A plugin failed, or there is no usable configuration."""


@dataclass(frozen=True)
class Sandbox:
    """A container in CNI's sense: the Pod. `ports`: its portMappings, for plugins with that capability."""

    id: str
    netns: str
    arguments: str = ""
    interface: str = "eth0"
    ports: tuple[Mapping[str, Any], ...] = ()


def configure(directory: Path, pod_cidrs: Sequence[families.Network], file: str = "") -> None:
    """Put the conf list `file` in place, or our own where there is no other.

    Where its IPAM is host-local without any range, it gets those of the node. Raises UsageError.
    """
    if not file and (any(directory.glob("*.conflist")) or any(directory.glob("*.conf"))):
        return
    document = read_conf_list(Path(file)) if file else OWN
    ranges = [[{"subnet": str(each)}] for each in pod_cidrs]
    plugins = [_ranged(plugin, ranges) for plugin in document["plugins"]]
    target = directory / f"10-{document['name']}.conflist"
    if not target.exists():  # a restarted agent leaves it as it has been changed meanwhile
        directory.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({**document, "plugins": plugins}, indent=2) + "\n")


def _ranged(plugin: Mapping[str, Any], ranges: Any) -> dict[str, Any]:
    ipam = plugin.get("ipam") or {}
    if ipam.get("type") != "host-local" or "ranges" in ipam or "subnet" in ipam:
        return dict(plugin)
    return {**plugin, "ipam": {**ipam, "ranges": ranges}}


def read_conf_list(file: Path) -> dict[str, Any]:
    """A conf list, or a single plugin's conf as a list of one. Raises UsageError."""
    try:
        document: dict[str, Any] = json.loads(file.read_text())
        if "plugins" not in document and "type" in document:
            shared: dict[str, Any] = {key: document[key] for key in SHARED if key in document}
            document = {**shared, "plugins": [document]}
        if not document["name"] or not all(plugin["type"] for plugin in document["plugins"]):
            raise ValueError("it has no name, or a plugin without a type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"CNI configuration {file}: {type(error).__name__}: {error}") from None
    return document


class Network:
    """The first conf list of `configurations`, called through `runtime`; plugins are in `programs`."""

    def __init__(self, configurations: Path, programs: Sequence[Path], runtime: Runtime) -> None:
        self._configurations = configurations
        self._programs = programs
        self._runtime = runtime

    async def add(self, sandbox: Sandbox) -> dict[str, Any]:
        """Attach the Pod. The last plugin's result. Undone when one fails. Raises CniError."""
        document = self._document()
        result: dict[str, Any] | None = None
        try:
            for plugin in document["plugins"]:
                answer = await self._call("ADD", document, plugin, sandbox, result)
                result = answer or result
        except CniError:
            await self._delete(document, sandbox, result, forgiving=True)
            raise
        return result or {}

    async def delete(self, sandbox: Sandbox, result: dict[str, Any] | None) -> None:
        """Detach the Pod. `result` is what `add` gave, None if that is not known."""
        await self._delete(self._document(), sandbox, result, forgiving=False)

    async def check(self, sandbox: Sandbox, result: dict[str, Any]) -> None:
        """Raises CniError unless the attachment is as `add` left it."""
        document = self._document()
        for plugin in document["plugins"]:
            await self._call("CHECK", document, plugin, sandbox, result)

    async def _delete(
        self, document: dict[str, Any], sandbox: Sandbox, result: dict[str, Any] | None, forgiving: bool
    ) -> None:
        for plugin in reversed(document["plugins"]):
            try:
                await self._call("DEL", document, plugin, sandbox, result)
            except CniError:
                if not forgiving:
                    raise

    def _document(self) -> dict[str, Any]:
        """The configuration, read each time: it may be put in place or changed at any time."""
        found = sorted(each for kind in ("*.conflist", "*.conf") for each in self._configurations.glob(kind))
        if not found:
            raise CniError(f"no CNI configuration: put a .conflist into {self._configurations}")
        try:
            return read_conf_list(found[0])
        except UsageError as error:
            raise CniError(str(error)) from None

    async def _call(
        self,
        command: str,
        document: Mapping[str, Any],
        plugin: Mapping[str, Any],
        sandbox: Sandbox,
        previous: dict[str, Any] | None,
    ) -> dict[str, Any] | None:
        version = document.get("cniVersion", "1.0.0")
        config = {**plugin, "cniVersion": version, "name": document["name"]}
        if previous is not None:
            config["prevResult"] = previous
        if sandbox.ports and (plugin.get("capabilities") or {}).get("portMappings"):
            config["runtimeConfig"] = {"portMappings": list(sandbox.ports)}
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox.id,
            "CNI_NETNS": sandbox.netns,
            "CNI_IFNAME": sandbox.interface,
            "CNI_ARGS": sandbox.arguments,
            "CNI_PATH": os.pathsep.join(map(str, self._programs)),
        }
        name = str(plugin["type"])
        process = Process("", self._argv(name), env=environment)
        try:
            finished = await self._runtime.run(process, json.dumps(config).encode(), TIMEOUT)
        except (TestbedError, TimeoutError, OSError) as error:
            raise CniError(f"CNI plugin {name}: {error or 'no answer in time'}") from None
        return _result(name, command, finished)

    def _argv(self, name: str) -> tuple[str, ...]:
        if name == OUR_PLUGIN:
            return ("testbed", "cni")
        for directory in self._programs:
            if (directory / name).is_file():
                return (str(directory / name),)
        raise CniError(f"CNI plugin {name!r} is not in {' or '.join(map(str, self._programs))}")


def _result(name: str, command: str, finished: Finished) -> dict[str, Any] | None:
    try:
        answer = json.loads(finished.stdout) if finished.stdout.strip() else None
    except ValueError:
        answer = None
    if finished.code == 0:
        return answer if isinstance(answer, dict) else None
    if isinstance(answer, dict) and answer.get("msg"):
        text = f"{answer['msg']} {answer.get('details') or ''}".strip()
    else:
        text = finished.stderr.decode(errors="replace").strip() or f"exit code {finished.code}"
    raise CniError(f"CNI plugin {name} failed to {command}: {text}")
