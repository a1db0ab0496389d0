"""A Pod's volumes: directories on the node, filled before its containers start and bound into them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.client import ApiError
from testbed.errors import TestbedError
from testbed.kernel import namespaces
from testbed.model import quantity
from testbed.model.resources import CONFIG_MAPS, SECRETS, Resource
from testbed.node.accounts import Tokens
from testbed.node.environment import expand, field, resource
from testbed.node.process import Mount
from testbed.node.references import MissingReference, References

Object = dict[str, Any]
Files = dict[str, tuple[bytes, int]]
"""Path in the volume -> content and mode."""

DEFAULT_MODE = 0o644


class MountError(TestbedError):
    """A volume cannot be set up (yet)."""


@dataclass(frozen=True)
class Setting:
    """What a volume is filled from."""

    pod: Object
    references: References
    facts: Mapping[str, str]
    tokens: Tokens


async def prepare(setting: Setting, directory: Path) -> None:
    """Make and fill every volume of the Pod below `directory`. Raises MountError. Twice does no harm."""
    for volume in setting.pod["spec"].get("volumes") or ():
        name = volume["name"]
        try:
            await _prepare(volume, setting, place(directory, name))
        except (MissingReference, MountError, ApiError, OSError, ValueError) as error:
            raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from None


def place(directory: Path, name: str) -> Path:
    """Where the volume of that name lies, of a Pod whose files are in `directory`."""
    return directory / "volumes" / name


async def _prepare(volume: Object, setting: Setting, target: Path) -> None:
    kind = next((key for key in volume if key != "name"), "emptyDir")
    if kind == "hostPath":
        _check_host_path(volume[kind] or {})
        return
    target.mkdir(parents=True, exist_ok=True)
    if kind in FILLED:
        write(target, await FILLED[kind](volume[kind] or {}, setting))
    elif kind == "emptyDir":
        _empty(volume.get(kind) or {}, target)
    else:
        raise MountError(f"volumes of kind {kind!r} are not known here; {', '.join(KNOWN)} are")


def _empty(source: Object, target: Path) -> None:
    """In memory where that is asked for, and wherever its size is limited: a file system can do that."""
    limit = source.get("sizeLimit")
    if (limit or source.get("medium") == "Memory") and not target.is_mount():
        options = "mode=777" + (f",size={int(quantity.parse(limit))}" if limit else "")
        namespaces.mount("tmpfs", str(target), "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, options)
    target.chmod(0o777)


def unmount(directory: Path) -> None:
    """Let go of the volumes in memory of a Pod whose files are in `directory`."""
    for target in (directory / "volumes").glob("*"):
        if target.is_mount():
            namespaces.unmount(str(target))


async def _secret(source: Object, setting: Setting) -> Files:
    return await _from_keys(SECRETS, source.get("secretName") or source.get("name", ""), source, setting)


async def _config_map(source: Object, setting: Setting) -> Files:
    return await _from_keys(CONFIG_MAPS, source.get("name", ""), source, setting)


async def _from_keys(kind: Resource, name: str, source: Object, setting: Setting) -> Files:
    optional = bool(source.get("optional"))
    contents = await setting.references.contents(kind, name, optional)
    mode = source.get("defaultMode", DEFAULT_MODE)
    if source.get("items") is None:
        return {key: (content, mode) for key, content in contents.items()}
    files: Files = {}
    for item in source["items"]:
        if item["key"] in contents:
            files[_inside(item["path"])] = (contents[item["key"]], item.get("mode", mode))
        elif not optional:
            raise MountError(f"references non-existent {kind.singular} key: {item['key']}")
    return files


async def _downward(source: Object, setting: Setting) -> Files:
    mode = source.get("defaultMode", DEFAULT_MODE)
    files: Files = {}
    for item in source.get("items") or ():
        if "resourceFieldRef" in item:
            text = _resource(setting.pod, item["resourceFieldRef"])
        else:
            text = _field(setting, (item.get("fieldRef") or {}).get("fieldPath", ""))
        files[_inside(item["path"])] = (text.encode(), item.get("mode", mode))
    return files


def _field(setting: Setting, path: str) -> str:
    """As `field`; here all labels or annotations may be asked for, one `key="value"` a line."""
    kind = path.removeprefix("metadata.")
    if kind in ("labels", "annotations"):
        entries = setting.pod["metadata"].get(kind) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    return field(setting.pod, path, setting.facts)


def _resource(pod: Object, reference: Object) -> str:
    spec = pod["spec"]
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        if container["name"] == reference.get("containerName"):
            return resource(container, reference)
    raise MountError(f"there is no container {reference.get('containerName')!r}")


async def _token(source: Object, setting: Setting) -> Files:
    seconds = source.get("expirationSeconds") or 3600
    token = await setting.tokens.of(setting.pod, source.get("audience") or "", seconds)
    return {_inside(source["path"]): (token.encode(), source.get("defaultMode") or DEFAULT_MODE)}


async def _projected(source: Object, setting: Setting) -> Files:
    """Several sources in one directory."""
    files: Files = {}
    for each in source.get("sources") or ():
        for kind, inner in each.items():
            if kind in SOURCES:
                files |= await SOURCES[kind]({"defaultMode": source.get("defaultMode"), **inner}, setting)
    return {path: (content, mode or DEFAULT_MODE) for path, (content, mode) in files.items()}


FILLED: dict[str, Callable[[Object, Setting], Awaitable[Files]]] = {
    "secret": _secret,
    "configMap": _config_map,
    "downwardAPI": _downward,
    "projected": _projected,
}
"""Kinds of volumes that the node agent writes files into; containers see them read-only."""

SOURCES = {**FILLED, "serviceAccountToken": _token}
"""What a projected volume is put together from."""

KNOWN = (*FILLED, "emptyDir", "hostPath")


def is_filled(pod: Object) -> bool:
    """Whether the Pod has volumes whose contents may change under it."""
    return any(kind in volume for volume in pod["spec"].get("volumes") or () for kind in FILLED)


def write(target: Path, files: Files) -> None:
    """Have exactly `files` in the volume, changed all at once.

    As Kubernetes' AtomicWriter: the files are in a directory of their own, `..data` points there, and what
    programs open are links through it.
    """
    data = target / "..data"
    if data.exists() and _content(data) == files:
        return
    fresh = target / f"..{time.time_ns()}"
    fresh.mkdir()
    for path, (content, mode) in files.items():
        file = fresh / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    old = data.resolve() if data.exists() else None
    link = target / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    os.rename(link, data)
    tops = {path.split("/")[0] for path in files}
    for entry in list(target.iterdir()):
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    for top in tops:
        if not (target / top).is_symlink():
            (target / top).symlink_to(f"..data/{top}")
    if old:
        shutil.rmtree(old)


def _content(data: Path) -> Files:
    return {
        str(file.relative_to(data)): (file.read_bytes(), file.stat().st_mode & 0o7777)
        for file in data.rglob("*")
        if file.is_file()
    }


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise MountError(f"path {path!r} leads out of the volume")
    return path


def _check_host_path(source: Object) -> None:
    path, kind = Path(source.get("path", "")), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    wrong = {"File": not path.is_file(), "Socket": not path.is_socket(), "Directory": not path.is_dir()}
    if wrong.get(kind, not path.exists()):
        raise MountError(f"hostPath type check failed: {path} is not a {kind.lower() or 'file or directory'}")


def mounts(pod: Object, container: Object, directory: Path, env: Mapping[str, str]) -> tuple[Mount, ...]:
    """The container's volume mounts, outer ones first. Raises MountError for a subPath that cannot be."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    made = []
    for mount in container.get("volumeMounts") or ():
        volume = volumes[mount["name"]]
        host = volume.get("hostPath")
        source = Path(host["path"]) if host else place(directory, mount["name"])
        filled = any(kind in volume for kind in FILLED)
        inner = _inside(expand(mount.get("subPathExpr") or mount.get("subPath") or "", env))
        if inner and not (source / inner).exists():
            if filled:
                raise MountError(f"subPath {inner!r} is not in volume {mount['name']!r}")
            (source / inner).mkdir(parents=True)
        readonly = filled or bool(mount.get("readOnly"))
        made.append(Mount(str(source / inner), mount["mountPath"], readonly))
    return tuple(sorted(made, key=lambda each: each.target))
